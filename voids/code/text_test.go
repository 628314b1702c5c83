package code_test

import (
	"bytes"
	"strings"
	"testing"

	"keyd/voids/code"
)

func TestParseRefuses(t *testing.T) {
	good := live(t, 0)
	whole := good.Text()
	with := func(at int, b byte) string {
		changed := good.Bytes()
		changed[at] = b
		return text(changed)
	}
	noIdentifier := good.Bytes()
	clear(noIdentifier[6:22])
	noExpiry := slip(t, 0).Bytes()
	clear(noExpiry[18:22])
	noR, largeR, noS := good.Bytes(), good.Bytes(), good.Bytes()
	clear(noR[34:66])
	clear(noS[66:])
	copy(largeR[34:66], bytes.Repeat([]byte{255}, 32))
	for name, c := range map[string]struct {
		text string
		want error
	}{
		"nothing":               {"", code.ErrLength},
		"one byte":              {"AE", code.ErrLength},
		"a character too many":  {whole + "A", code.ErrLength},
		"a character too few":   {whole[:156], code.ErrLength},
		"a slip's length":       {whole[:48], code.ErrLength},
		"no length of base32":   {whole[:155], code.ErrLength},
		"endless":               {strings.Repeat("A", 1<<20), code.ErrLength},
		"lower case":            {strings.ToLower(whole), code.ErrAlphabet},
		"one in lower case":     {whole[:80] + strings.ToLower(whole[80:100]) + whole[100:], code.ErrAlphabet},
		"padding":               {slip(t, 0).Text()[:46] + "==", code.ErrAlphabet},
		"a line feed":           {whole[:156] + "\n", code.ErrAlphabet},
		"a line feed inside":    {whole[:20] + "\n" + whole[21:], code.ErrAlphabet},
		"a space":               {" " + whole[1:], code.ErrAlphabet},
		"digits not in base32":  {"0189" + whole[4:], code.ErrAlphabet},
		"no ASCII":              {"ÄÖ" + whole[4:], code.ErrAlphabet},
		"version 0":             {with(0, 0), code.ErrVersion},
		"version 2":             {with(0, 2), code.ErrVersion},
		"kind 0":                {with(1, 0), code.ErrKind},
		"kind 3":                {with(1, 3), code.ErrKind},
		"kind of a slip":        {with(1, 2), code.ErrLength},
		"without an identifier": {text(noIdentifier), code.ErrIdentifier},
		"without an expiry":     {text(noExpiry), code.ErrExpiryRange},
		"r of zero":             {text(noR), code.ErrSignatureForm},
		"s of zero":             {text(noS), code.ErrSignatureForm},
		"large r":               {text(largeR), code.ErrSignatureForm},
		"large s":               {text(append(good.Bytes()[:66], bytes.Repeat([]byte{255}, 32)...)), code.ErrSignatureForm},
		"a URL":                 {url(t, slip(t, 0), host), code.ErrAlphabet},
	} {
		if p, err := code.Parse(c.text); err != c.want || p != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestParseURLRefuses(t *testing.T) {
	whole := live(t, 0).Text()
	const start = "HTTPS://VOID.EXAMPLE.COM/V/"
	for name, c := range map[string]struct {
		url  string
		want error
	}{
		"nothing":             {"", code.ErrScheme},
		"the text alone":      {whole, code.ErrScheme},
		"HTTP":                {"HTTP://VOID.EXAMPLE.COM/V/" + whole, code.ErrScheme},
		"a long s":            {"HTTPſ://VOID.EXAMPLE.COM/V/" + whole, code.ErrScheme},
		"one slash":           {"HTTPS:/VOID.EXAMPLE.COM/V/" + whole, code.ErrScheme},
		"a space before":      {" " + start + whole, code.ErrScheme},
		"no host":             {"HTTPS:///V/" + whole, code.ErrHost},
		"a user":              {"HTTPS://A@VOID.EXAMPLE.COM/V/" + whole, code.ErrHost},
		"a dot at the end":    {"HTTPS://VOID.EXAMPLE.COM./V/" + whole, code.ErrHost},
		"the usual port":      {"HTTPS://VOID.EXAMPLE.COM:443/V/" + whole, code.ErrHost},
		"a long port":         {"HTTPS://VOID.EXAMPLE.COM:08443/V/" + whole, code.ErrHost},
		"no port":             {"HTTPS://VOID.EXAMPLE.COM:/V/" + whole, code.ErrHost},
		"a port too large":    {"HTTPS://VOID.EXAMPLE.COM:65536/V/" + whole, code.ErrHost},
		"a port with a sign":  {"HTTPS://VOID.EXAMPLE.COM:+8443/V/" + whole, code.ErrHost},
		"two ports":           {"HTTPS://VOID.EXAMPLE.COM:1:2/V/" + whole, code.ErrHost},
		"a backslash":         {"HTTPS://VOID.EXAMPLE.COM\\V\\" + whole, code.ErrHost},
		"a question":          {"HTTPS://VOID.EXAMPLE.COM?/V/" + whole, code.ErrHost},
		"an escape":           {"HTTPS://VOID%2EEXAMPLE.COM/V/" + whole, code.ErrHost},
		"a Kelvin sign":       {"HTTPS://\u212aOID.EXAMPLE.COM/V/" + whole, code.ErrHost},
		"another host":        {"HTTPS://EVIL.EXAMPLE/V/" + whole, code.ErrForeignHost},
		"a host below":        {"HTTPS://A.VOID.EXAMPLE.COM/V/" + whole, code.ErrForeignHost},
		"another port":        {"HTTPS://VOID.EXAMPLE.COM:8443/V/" + whole, code.ErrForeignHost},
		"no path":             {"HTTPS://VOID.EXAMPLE.COM", code.ErrPath},
		"an empty path":       {"HTTPS://VOID.EXAMPLE.COM/", code.ErrPath},
		"path in lower case":  {"HTTPS://VOID.EXAMPLE.COM/v/" + whole, code.ErrPath},
		"another path":        {"HTTPS://VOID.EXAMPLE.COM/W/" + whole, code.ErrPath},
		"two slashes":         {"HTTPS://VOID.EXAMPLE.COM//V/" + whole, code.ErrPath},
		"three slashes":       {start + "/" + whole, code.ErrLength},
		"code in lower case":  {start + strings.ToLower(whole), code.ErrAlphabet},
		"a query":             {start + slip(t, 0).Text() + "?A=1", code.ErrAlphabet},
		"a fragment":          {start + slip(t, 0).Text() + "#", code.ErrAlphabet},
		"a slash at the end":  {start + slip(t, 0).Text() + "/", code.ErrAlphabet},
		"no code":             {start, code.ErrLength},
		"endless":             {start + strings.Repeat("A", 1<<20), code.ErrLength},
		"an endless host":     {"HTTPS://" + strings.Repeat("A", 1<<20) + "/V/" + whole, code.ErrLength},
		"something behind it": {start + whole + "A", code.ErrLength},
	} {
		if p, err := code.ParseURL(c.url, host); err != c.want || p != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	if p, err := code.ParseURL(start + whole); err != code.ErrForeignHost || p != nil {
		t.Errorf("without hosts: %v", err)
	}
	if p, err := code.Scan("TEL:"+whole, host); err != code.ErrScheme || p != nil {
		t.Errorf("a telephone number: %v", err)
	}
}

func TestHosts(t *testing.T) {
	p := slip(t, 0)
	for _, h := range []string{"a", "A-B.c", "localhost:8443", "192.0.2.1", "192.0.2.1:1", "x:65535", longHost, longestHost, "xn--bcher-kva.example"} {
		u := url(t, p, h)
		if u != "HTTPS://"+strings.ToUpper(h)+"/V/"+p.Text() {
			t.Errorf("%s: %s", h, u)
		}
		if _, err := code.ParseURL(u, h); err != nil {
			t.Errorf("%s: %v", u, err)
		}
		symbol(t, u) // every character is in the alphanumeric mode
	}
	for _, h := range []string{
		"", ".", "a.", ".a", "a..b", "-a", "a-", "a_b", "a b", "a/b", "a:", ":1", "a:0", "a:443", "a:65536", "a:01", "a:1:2", "[::1]", "ä", "\u212a", "a\n", "a%", strings.Repeat("a", 64), longestHost + "a",
	} {
		if u, err := p.URL(h); err != code.ErrHost || u != "" {
			t.Errorf("%q: %q, %v", h, u, err)
		}
	}
}
