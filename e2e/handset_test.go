package e2e

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	keydv1 "keyd/api/keyd/v1"
	"keyd/hsm"
	"keyd/pinrecord"
	"keyd/simulator"
)

// handset is a counter whose supervisor has a phone, which knows nothing but what is scanned, sent to it
// and typed.
type handset struct {
	*counter
	simulator.Phone
	client *http.Client

	typing func(number, digits string, block []byte) // told what is typed, and what leaves the phone; or nil
	asking func(question, answer []byte)             // told what is sent and received; or nil
}

func newHandset(t *testing.T) *handset {
	t.Helper()
	return newCounter(t).handset(t, nil)
}

// handset is a phone that finds the pages of a counter, there or, if at is nil, where the name says.
func (c *counter) handset(t *testing.T, at net.Addr) *handset {
	t.Helper()
	h := &handset{counter: c}
	ca, err := os.ReadFile(filepath.Join(h.dir, "certs", "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		t.Fatal("no authority")
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	if at != nil {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, at.Network(), at.String())
		}
	}
	t.Cleanup(transport.CloseIdleConnections)
	h.client = &http.Client{Transport: transport}
	return h
}

// text is bytes as pages send and read them.
type text []byte

func (b text) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

func (b *text) UnmarshalText(in []byte) (err error) {
	*b, err = base64.RawURLEncoding.AppendDecode(nil, in)
	return err
}

type typedJSON struct {
	Point text `json:"point"`
	Block text `json:"block"`
}

// keyJSON is the page key of an answer.
type keyJSON struct {
	Point     text  `json:"point"`
	ExpiresAt int64 `json:"expires_at"`
	Signature text  `json:"signature"`
}

// shownVoid is what a phone reads of a void.
type shownVoid struct {
	Merchant  string   `json:"merchant"`
	Reference string   `json:"reference"`
	Amount    int64    `json:"amount"`
	Currency  string   `json:"currency"`
	State     string   `json:"state"`
	Digest    text     `json:"digest"`
	Challenge text     `json:"challenge"`
	Passkey   bool     `json:"passkey"`
	PIN       bool     `json:"pin"`
	Key       *keyJSON `json:"key"`
	CodeKey   text     `json:"code_key"`
}

// shownLink is what a phone reads of a link.
type shownLink struct {
	Kind      string  `json:"kind"`
	Merchant  string  `json:"merchant"`
	Terminal  string  `json:"terminal"`
	Name      string  `json:"name"`
	Approval  text    `json:"approval"`
	Challenge text    `json:"challenge"`
	Key       keyJSON `json:"key"`
	CodeKey   text    `json:"code_key"`
}

// outcomeOnPhone is what a phone reads of an approval.
type outcomeOnPhone struct {
	Verified  bool     `json:"verified"`
	State     string   `json:"state"`
	Result    string   `json:"result"`
	Next      []string `json:"next"`
	TriesLeft int      `json:"tries_left"`
}

// post asks a page's question. What is refused is its reason.
func (h *handset) post(path string, question, answer any) (refusal string) {
	h.t.Helper()
	body, err := json.Marshal(question)
	if err != nil {
		h.t.Fatal(err)
	}
	status, got, err := h.once(path, body)
	if err != nil {
		h.t.Fatal(err)
	}
	if status != http.StatusOK {
		var refused struct{ Error string }
		if err := json.Unmarshal(got, &refused); err != nil || refused.Error == "" {
			h.t.Fatalf("%s: %d %s", path, status, got)
		}
		return refused.Error
	}
	if err := json.Unmarshal(got, answer); err != nil {
		h.t.Fatalf("%s: %v: %s", path, err, got)
	}
	return ""
}

// once sends a page's question, whatever comes of it.
func (h *handset) once(path string, body []byte) (status int, answer []byte, err error) {
	r, err := http.NewRequestWithContext(h.t.Context(), http.MethodPost, h.Origin+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	response, err := h.client.Do(r)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close() //nolint:errcheck // read only
	answer, err = io.ReadAll(response.Body)
	if h.asking != nil {
		h.asking(body, answer)
	}
	return response.StatusCode, answer, err
}

func (h *handset) posted(path string, question, answer any) {
	h.t.Helper()
	if refusal := h.post(path, question, answer); refusal != "" {
		h.t.Fatalf("%s: %s", path, refusal)
	}
}

// genuine insists on the signature of a page key, by a key of which there is the public half.
func (h *handset) genuine(k *keyJSON, signer text) {
	h.t.Helper()
	parsed, err := x509.ParsePKIXPublicKey(signer)
	if err != nil || len(k.Signature) != 64 {
		h.t.Fatalf("%v, a signature of %d bytes", err, len(k.Signature))
	}
	message := binary.BigEndian.AppendUint64(append([]byte(hsm.PageKeyText), k.Point...), uint64(k.ExpiresAt))
	digest := sha256.Sum256(message)
	if !ecdsa.Verify(parsed.(*ecdsa.PublicKey), digest[:], new(big.Int).SetBytes(k.Signature[:32]), new(big.Int).SetBytes(k.Signature[32:])) {
		h.t.Fatal("the page key is signed by nobody")
	}
}

// newPIN is what sets a PIN by a link: code and PIN are typed one after the other.
func (h *handset) newPIN(link string, e *shownLink, s *pinrecord.Subject, code, pin string) map[string]any {
	h.t.Helper()
	pad, err := h.Pad(e.Key.Point)
	if err != nil {
		h.t.Fatal(err)
	}
	approval := [32]byte(e.Approval)
	return map[string]any{"link": link, "code": h.typedAt(pad, s, code, pinrecord.OfCode(approval, s)), "pin": h.typedAt(pad, s, pin, pinrecord.OfNewPIN(approval, s))}
}

func (h *handset) typedOn(k *keyJSON, subject *pinrecord.Subject, digits string, context pinrecord.Context) typedJSON {
	h.t.Helper()
	pad, err := h.Pad(k.Point)
	if err != nil {
		h.t.Fatal(err)
	}
	return h.typedAt(pad, subject, digits, context)
}

func (h *handset) typedAt(pad *simulator.Pad, subject *pinrecord.Subject, digits string, context pinrecord.Context) typedJSON {
	h.t.Helper()
	block, err := pad.Enter(subject.Number(), []byte(digits), context)
	if err != nil {
		h.t.Fatal(err)
	}
	if h.typing != nil {
		h.typing(subject.Number(), digits, block)
	}
	return typedJSON{pad.Point, block}
}

// voidOnPhone creates a void and returns its code, with what the phone shows of it.
func (h *handset) voidOnPhone(reference string, amount int64) (id, code string, v *shownVoid) {
	h.t.Helper()
	a := new(keydv1.CreateVoidResponse)
	h.asked(a, "", append([]string{"create", "--terminal", "t-1", "--reference", reference}, facts(amount)...)...)
	head, code, found := strings.Cut(a.CodeUrl, "/V/")
	if !found || !strings.HasPrefix(head, "HTTPS://LOCALHOST:") || code != a.Code {
		h.t.Fatalf("the URL is %q", a.CodeUrl)
	}
	h.Origin = strings.ToLower(head)
	v = new(shownVoid)
	h.posted("/api/void", map[string]string{"code": code}, v)
	return a.Void.VoidId, code, v
}

func (h *handset) byPIN(code, name, pin string, v *shownVoid) map[string]any {
	h.t.Helper()
	subject := &pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "m-17", Name: name}
	e := h.typedOn(v.Key, subject, pin, pinrecord.OfVoid([32]byte(v.Digest), subject))
	return map[string]any{"code": code, "name": name, "of_terminal": false, "point": e.Point, "block": e.Block}
}

func (h *handset) byPasskey(code string, user [32]byte, v *shownVoid) map[string]any {
	h.t.Helper()
	a, err := h.Approve([32]byte(v.Challenge))
	if err != nil {
		h.t.Fatal(err)
	}
	return map[string]any{"code": code, "user": text(user[:]), "id": text(a.ID), "client_data": text(a.ClientData), "authenticator_data": text(a.AuthenticatorData), "signature": text(a.Signature)}
}

func (h *handset) outcome(what, path string, question map[string]any, want outcomeOnPhone) {
	h.t.Helper()
	var got outcomeOnPhone
	if refusal := h.post(path, question, &got); refusal != "" || got.Verified != want.Verified || got.State != want.State || got.Result != want.Result || got.TriesLeft != want.TriesLeft || len(got.Next) == 0 {
		h.t.Errorf("%s: %s %+v, want %+v", what, refusal, got, want)
	}
}

// linked begins something, and returns the link that the command prints, and the code.
func (h *handset) linked(action, version, kind string) (link, code string) {
	h.t.Helper()
	first := filepath.Join(h.papers, kind+action+version)
	by := func(name string) []string {
		path := filepath.Join(h.dir, "approvers", name)
		return []string{"--officer-key", path + ".key", "--certificate", path + ".crt", "--yes"}
	}
	h.must(append(append([]string{"pin", "approve", "--action", action, "--kind", kind, "--version", version, "--out", first}, dora...), by("anna")...)...)
	h.must(append([]string{"pin", "approve", "--paper", first, "--out", first + "-again"}, by("bert")...)...)
	for l := range strings.Lines(h.must("pin", "begin", first, first+"-again", "--code-out", first+"-code", "--dir", h.dir)) {
		if fields := strings.Fields(l); len(fields) == 2 && fields[0] == "link" {
			link = fields[1]
		}
	}
	host, name, found := strings.Cut(link, "/p#")
	if !found || len(name) != 26 {
		h.t.Fatalf("the link is %q", link)
	}
	h.Origin = host
	return name, strings.TrimSpace(h.must("pin", "code", "--approval", first, "--sealed", first+"-code", "--officer-key", filepath.Join(h.dir, "approvers", "anna.key")))
}

func (h *handset) enrolment(link string) (e *shownLink, s *pinrecord.Subject) {
	h.t.Helper()
	e = new(shownLink)
	h.posted("/api/enrolment", map[string]string{"link": link}, e)
	h.genuine(&e.Key, e.CodeKey)
	kind := map[string]pinrecord.Kind{"PIN": pinrecord.Supervisor, "PASSKEY": pinrecord.Passkey}[e.Kind]
	return e, &pinrecord.Subject{Kind: kind, Merchant: e.Merchant, Terminal: e.Terminal, Name: e.Name}
}

func (h *handset) set(path string, question map[string]any, want bool) {
	h.t.Helper()
	var a struct{ Verified bool }
	if refusal := h.post(path, question, &a); refusal != "" || a.Verified != want {
		h.t.Errorf("%s: %s %t, want %t", path, refusal, a.Verified, want)
	}
}

// newPasskey makes a passkey on the phone for a link, with a code that is typed for it.
func (h *handset) newPasskey(link, code string) (question map[string]any, user [32]byte) {
	h.t.Helper()
	e, s := h.enrolment(link)
	clientData, data, err := h.CreatePasskey([32]byte(e.Challenge))
	if err != nil {
		h.t.Fatal(err)
	}
	return map[string]any{
		"link": link, "client_data": text(clientData), "authenticator_data": text(data),
		"code": h.typedOn(&e.Key, s, code, pinrecord.OfPasskey([32]byte(e.Approval), s, data)),
	}, s.Digest()
}
