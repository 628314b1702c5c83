package web

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
)

//go:embed page
var embedded embed.FS

// file is something that is served as it is.
type file struct {
	body, zipped []byte
	kind         string
	forever      bool // its name has its hash
}

func newFile(body []byte, kind string, forever bool) (*file, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err = z.Write(body); err != nil {
		return nil, err
	}
	if err = z.Close(); err != nil {
		return nil, err
	}
	return &file{body, b.Bytes(), kind, forever}, nil
}

// serve answers with the file. Nothing in it is secret, so it is compressed.
func (f *file) serve(w http.ResponseWriter, r *http.Request) {
	header, body := w.Header(), f.body
	header.Set("Content-Type", f.kind)
	header.Set("Vary", "Accept-Encoding")
	if f.forever {
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	if takesGzip(r.Header) {
		header.Set("Content-Encoding", "gzip")
		body = f.zipped
	}
	header.Set("Content-Length", strconv.Itoa(len(body)))
	if r.Method != http.MethodHead {
		_, _ = w.Write(body) // who has gone away is told nothing
	}
}

func takesGzip(h http.Header) bool {
	for _, coding := range strings.Split(h.Get("Accept-Encoding"), ",") {
		if strings.TrimSpace(coding) == "gzip" {
			return true
		}
	}
	return false
}

// files are the two pages, and what they load by its path.
type files struct {
	void, enrolment *file
	assets          map[string]*file
}

// modules are the scripts, each behind those that it imports.
var modules = []string{"text.js", "bytes.js", "crypto.js", "dom.js", "ask.js", "pad.js", "guide.js", "page.js", "void.js", "enrolment.js"}

// loaded is what [load] returns; it is the same for everybody.
var loaded = sync.OnceValues(load)

// load names what is embedded by its hash, and writes these names where others name it.
func load() (*files, error) {
	l := &files{assets: map[string]*file{}}
	style, err := fs.ReadFile(embedded, "page/style.css")
	if err != nil {
		return nil, err
	}
	names := map[string]string{} // by what they are named in the source
	if names["style.css"], err = l.add("style.css", style, "text/css; charset=utf-8"); err != nil {
		return nil, err
	}
	for _, m := range modules {
		source, err := fs.ReadFile(embedded, "page/"+m)
		if err != nil {
			return nil, err
		}
		for _, imported := range modules {
			quoted := []byte(`"./` + imported + `"`)
			if !bytes.Contains(source, quoted) {
				continue
			}
			if names[imported] == "" {
				return nil, fmt.Errorf("web: %s imports %s, which does not come before it", m, imported)
			}
			source = bytes.ReplaceAll(source, quoted, []byte(`"./`+path.Base(names[imported])+`"`))
		}
		if names[m], err = l.add(m, source, "text/javascript; charset=utf-8"); err != nil {
			return nil, err
		}
	}
	if l.void, err = pageOf("void.js", names); err != nil {
		return nil, err
	}
	l.enrolment, err = pageOf("enrolment.js", names)
	return l, err
}

// add returns the path of a file.
func (l *files) add(name string, body []byte, kind string) (string, error) {
	hash := sha256.Sum256(body)
	extension := path.Ext(name)
	p := "/assets/" + strings.TrimSuffix(name, extension) + "." + hex.EncodeToString(hash[:8]) + extension
	f, err := newFile(body, kind, true)
	l.assets[p] = f
	return p, err
}

// pageOf writes a page, which begins with a script. It names the scripts that this one imports, so
// that a slow network is asked for all of them at once.
func pageOf(script string, names map[string]string) (*file, error) {
	source, err := fs.ReadFile(embedded, "page/page.html")
	if err != nil {
		return nil, err
	}
	var early []string
	for _, m := range modules {
		if m != "void.js" && m != "enrolment.js" {
			early = append(early, `<link rel="modulepreload" href="`+names[m]+`">`)
		}
	}
	for mark, text := range map[string]string{
		"{{style}}": names["style.css"], "{{script}}": names[script], "{{early}}": strings.Join(slices.Clip(early), "\n"),
	} {
		if bytes.Count(source, []byte(mark)) != 1 {
			return nil, fmt.Errorf("web: page.html has %s not once", mark)
		}
		source = bytes.ReplaceAll(source, []byte(mark), []byte(text))
	}
	return newFile(source, "text/html; charset=utf-8", false)
}
