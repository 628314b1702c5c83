package main

import (
	"strings"
	"testing"
	"time"
)

func TestFlagsThatMeasureNothing(t *testing.T) {
	good := options{length: time.Second, underWay: 128, perConnection: 32, terminals: 1000, age: 10_000, accounts: 1000, ksn: "monotonic"}
	for name, c := range map[string]struct {
		change             func(*options)
		only, format, page string
		rest               []string
		want               string
	}{
		"all good":           {format: "text"},
		"json":               {format: "json", only: "zone"},
		"an argument":        {format: "text", rest: []string{"zone"}, want: "unexpected"},
		"no expression":      {format: "text", only: "(", want: "-only"},
		"an unknown format":  {format: "xml", want: "-o"},
		"a page of a part":   {format: "text", only: "zone", page: "p.md", want: "-write"},
		"no length":          {format: "text", change: func(o *options) { o.length = 0 }, want: "-length"},
		"no calls":           {format: "text", change: func(o *options) { o.underWay = 0 }, want: "-calls"},
		"a crowd":            {format: "text", change: func(o *options) { o.perConnection = 300 }, want: "-per-connection"},
		"too many terminals": {format: "text", change: func(o *options) { o.terminals = maxTerminals + 1 }, want: "-terminals"},
		"worn out terminals": {format: "text", change: func(o *options) { o.age = 1 << 21 }, want: "-age"},
		"no card":            {format: "text", change: func(o *options) { o.accounts = 0 }, want: "-accounts"},
		"few with keys":      {format: "text", change: func(o *options) { o.enrol = 3 }, want: "-enrol"},
		"all with keys":      {format: "text", change: func(o *options) { o.enrol = 200_000 }, want: "-enrol"},
		"negative ones":      {format: "text", change: func(o *options) { o.enrol = -1 }, want: "-enrol"},
		"unknown KSN checks": {format: "text", change: func(o *options) { o.ksn = "on" }, want: "-ksn"},
	} {
		o := good
		if c.change != nil {
			c.change(&o)
		}
		err := o.check(c.only, c.format, c.page, c.rest)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
