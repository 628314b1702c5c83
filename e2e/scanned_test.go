package e2e

import (
	"bytes"
	"fmt"
	"html"
	"image"
	"image/png"
	"regexp"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/makiuchi-d/gozxing"
	"github.com/makiuchi-d/gozxing/qrcode"

	keydv1 "keyd/api/keyd/v1"
	"keyd/web/chromium"
)

// screen is a terminal's window as Chromium draws it: cells as high as the font is, without room between
// the lines.
type screen struct{ background, foreground string }

var lightScreen, darkScreen = screen{"#fdf6e3", "#586e75"}, screen{"#1e1e1e", "#d4d4d4"}

// palette are those of the 256 colours that keyd draws with.
var palette = map[string]string{"16": "#000000", "231": "#ffffff"}

var (
	escapeSequence = regexp.MustCompile("\x1b\\[([0-9;]*)m")
	colourOf       = regexp.MustCompile(`([34]8);5;(\d+)`)
)

// draws is a page with a command's output, whose escape sequences are colours.
func (s screen) draws(t *testing.T, output string) string {
	t.Helper()
	var body strings.Builder
	for output != "" {
		at := escapeSequence.FindStringSubmatchIndex(output)
		if at == nil {
			body.WriteString(html.EscapeString(output))
			break
		}
		body.WriteString(html.EscapeString(output[:at[0]]) + "</span><span style='")
		for _, c := range colourOf.FindAllStringSubmatch(output[at[2]:at[3]], -1) {
			value, known := palette[c[2]]
			if !known {
				t.Fatalf("colour %s", c[2])
			}
			body.WriteString(map[string]string{"38": "color", "48": "background"}[c[1]] + ":" + value + ";")
		}
		body.WriteString("'>")
		output = output[at[1]:]
	}
	if strings.Contains(body.String(), "\x1b") {
		t.Fatal("an escape sequence that sets no colour")
	}
	return fmt.Sprintf(`<!doctype html><meta charset="utf-8"><style>body{margin:0;background:%s;color:%s}pre{margin:8px;font:15px/normal "DejaVu Sans Mono","Liberation Mono",monospace}</style><pre>$ keyd void qr
<span>%s</span>$ </pre>`, s.background, s.foreground, body.String())
}

// pictured is what a browser shows of a page of its own.
func pictured(t *testing.T, p *chromium.Phone, page string, width, height int64) image.Image {
	t.Helper()
	chromium.Call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1})
	p.Do(chromedp.Navigate("about:blank"))
	chromium.Eval[bool](p, fmt.Sprintf(`(document.open(), document.write(%q), document.close(), document.fonts.ready.then(() => true))`, page))
	shot, err := chromedp.Run(p, chromedp.CaptureScreenshot())
	if err != nil {
		t.Fatal(err)
	}
	chromium.Call(p, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: chromium.Width, Height: chromium.Height, DeviceScaleFactor: 2, Mobile: true})
	picture, err := png.Decode(bytes.NewReader(shot))
	if err != nil {
		t.Fatal(err)
	}
	return picture
}

// readQR has an independent reader read the code in a picture.
func readQR(picture image.Image) (string, error) {
	bitmap, err := gozxing.NewBinaryBitmap(gozxing.NewHybridBinarizer(gozxing.NewLuminanceSourceFromImage(picture)))
	if err != nil {
		return "", err
	}
	result, err := qrcode.NewQRCodeReader().Decode(bitmap, map[gozxing.DecodeHintType]any{gozxing.DecodeHintType_TRY_HARDER: true})
	if err != nil {
		return "", err
	}
	return result.GetText(), nil
}

// What a phone opens is what its camera reads off a terminal, and nothing that a test has put together:
// keyd void qr draws the URL on a light and on a dark screen, a reader of somebody else's reads the
// screen's picture, and the browser opens what was read.
func TestACodeIsScannedFromATerminal(t *testing.T) {
	h := newHandset(t)
	h.voidOnPhone("pay-0", 12_300) // the host is known by it
	p := h.browser()
	for i, c := range []struct {
		name string
		screen
		flags []string
		rows  int // of text for 61 rows of modules
	}{
		{"light", lightScreen, nil, 31},
		{"dark", darkScreen, nil, 31},
		{"dark, inverse", darkScreen, []string{"--inverse"}, 31},
		{"dark, ASCII", darkScreen, []string{"--ascii"}, 61},
	} {
		t.Run(c.name, func(t *testing.T) {
			amount := int64(10_000 + i)
			a := new(keydv1.CreateVoidResponse)
			h.asked(a, "", append([]string{"create", "--terminal", "t-1", "--reference", fmt.Sprintf("pay-000%d", i+1)}, facts(amount)...)...)
			drawn, err := h.command(a.CodeUrl+"\n", append([]string{"void", "qr"}, c.flags...)...)
			if err != nil || strings.Count(drawn, "\n") != c.rows {
				t.Fatalf("%d lines: %v", strings.Count(drawn, "\n"), err)
			}
			read, err := readQR(pictured(t, p, c.draws(t, drawn), 1200, 1200))
			if err != nil || read != a.CodeUrl {
				t.Fatalf("read is %q, want %q: %v", read, a.CodeUrl, err)
			}
			p.Do(chromedp.Navigate(read))
			p.Title("Approve this void?")
			p.Shows(fmt.Sprintf("%d.%02d", amount/100, amount%100), fmt.Sprintf("…000%d", i+1))
		})
	}
	p.Quiet()
}
