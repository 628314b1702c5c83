package web

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
)

// Both languages say the same things, all of which are shown somewhere, and nothing else is.
func TestTexts(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	p.Open("/p")
	p.Title("This link cannot be used")
	var keys [2][]string
	for i, l := range []string{"zh", "en"} {
		keys[i] = eval[[]string](p, fmt.Sprintf(`import(%q).then((m) => m.keys(%q))`, p.modules["text.js"], l))
	}
	if !slices.Equal(keys[0], keys[1]) || len(keys[0]) < 100 {
		t.Errorf("%d and %d texts", len(keys[0]), len(keys[1]))
	}
	var source strings.Builder
	for _, m := range modules {
		if m != "text.js" {
			b, err := embedded.ReadFile("page/" + m)
			must(t, err)
			source.Write(b)
		}
	}
	all := source.String()
	for _, key := range keys[0] {
		base := strings.TrimSuffix(key, "_more")
		used := strings.Contains(all, quoted(key)) || key != base && strings.Contains(all, quoted(base)) || strings.HasPrefix(key, "guide_") || key == "language"
		if !used {
			t.Errorf("nothing shows %s", key)
		}
	}
	for _, part := range strings.Split(all, "text(\"")[1:] {
		if key, _, _ := strings.Cut(part, `"`); !slices.Contains(keys[0], key) {
			t.Errorf("there is no text %s", key)
		}
	}
}

// How long a page takes on slow networks is told, and not judged: machines differ.
func TestSlowNetworks(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	for _, c := range []struct {
		name          string
		latency, kbit float64
	}{{"GPRS, 50 kbit/s, 500 ms", 500, 50}, {"2G, 250 kbit/s, 300 ms", 300, 250}, {"3G, 750 kbit/s, 100 ms", 100, 750}} {
		p.network(false, c.latency, c.kbit*1000/8, c.kbit*1000/8)
		code := p.newVoid(nil)
		start := time.Now()
		p.openVoid(code)
		p.Title("Approve this void?")
		first := time.Since(start)
		start = time.Now()
		p.openVoid(p.newVoid(nil))
		p.Title("Approve this void?")
		t.Logf("%s: %.1f s until somebody can approve, %.1f s where the phone has the scripts", c.name, first.Seconds(), time.Since(start).Seconds())
		call(p, network.ClearBrowserCache, cdp.Empty{})
	}
}
