package keyblock

import (
	"fmt"
	"time"
)

// The forms of a time in the blocks TS and TC: ISO 8601 in UTC (X9.143-2021 6.3.6.13 and
// 6.3.6.14), with or without separators and hundredths of a second.
const (
	secondsForm          = "2006-01-02T15:04:05Z"
	hundredthsForm       = "2006-01-02T15:04:05.00Z"
	plainSecondsForm     = "20060102150405Z"
	plainHundredthsWidth = len("2006010215040500Z")
)

// NewTS returns the optional block TS: when the key block was formed, in whole seconds. The
// error is [ErrContent] where the year has not four digits.
func NewTS(t time.Time) (Optional, error) {
	if t = t.UTC(); t.Year() < 0 || t.Year() > 9999 {
		return Optional{}, fmt.Errorf("%w: TS", ErrContent)
	}
	return Optional{"TS", t.Format(secondsForm)}, nil
}

// TimeStamp returns when the key block was formed, block TS.
func (h *Header) TimeStamp() (time.Time, error) { return content(h, "TS", readTime) }

// Created returns when the key was made, block TC.
func (h *Header) Created() (time.Time, error) { return content(h, "TC", readTime) }

// readTime accepts the four forms. A time without the Z at its end is in nobody's zone.
func readTime(data string) (time.Time, bool) {
	switch len(data) {
	case len(secondsForm):
		return readForm(secondsForm, data)
	case len(hundredthsForm):
		return readForm(hundredthsForm, data)
	case len(plainSecondsForm):
		return readForm(plainSecondsForm, data)
	case plainHundredthsWidth:
		// Package time finds hundredths only after a point.
		at := len(plainSecondsForm) - 1
		return readForm("20060102150405.00Z", data[:at]+"."+data[at:])
	}
	return time.Time{}, false
}

// readForm also formats what it read: package time accepts more than a layout says.
func readForm(layout, data string) (time.Time, bool) {
	t, err := time.Parse(layout, data)
	if err != nil || t.Format(layout) != data {
		return time.Time{}, false
	}
	return t, true
}
