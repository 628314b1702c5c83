package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"text/template"
)

// pageText is the page of results: the prose is written by hand, every figure comes from
// the run.
//
//go:embed performance.md.tmpl
var pageText string

// renderPage returns the page. Nothing in it tells which machine, user or directory it
// was.
func renderPage(r *results) ([]byte, error) {
	t, err := template.New("performance.md").Option("missingkey=error").Funcs(template.FuncMap{
		"number": func(v any) (string, error) {
			switch v := v.(type) {
			case int:
				return number(float64(v)), nil
			case float64:
				return number(v), nil
			}
			return "", fmt.Errorf("%T is no number", v)
		},
	}).Parse(pageText)
	if err != nil {
		return nil, fmt.Errorf("page of results: %w", err)
	}
	var b bytes.Buffer
	if err := t.Execute(&b, r); err != nil {
		return nil, fmt.Errorf("page of results: %w", err)
	}
	return b.Bytes(), nil
}

// writePage writes the page, whole or not at all.
func writePage(path string, r *results) error {
	b, err := renderPage(r)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".performance-")
	if err != nil {
		return fmt.Errorf("-write: %w", err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // the error that counts is the one before
		return fmt.Errorf("-write: %w", err)
	}
	return nil
}
