package passkey

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
)

const origin = "https://void.example.com"

// authenticator is a passkey with its private key.
type authenticator struct {
	private *ecdsa.PrivateKey
	id      []byte
}

func newAuthenticator(t testing.TB) *authenticator {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &authenticator{private, bytes.Repeat([]byte{0x5a}, 20)}
}

func clientData(kind, origin string, challenge [32]byte, more string) []byte {
	return []byte(`{"type":"` + kind + `","challenge":"` + base64.RawURLEncoding.EncodeToString(challenge[:]) + `","origin":"` + origin + `"` + more + `}`)
}

func data(site string, flags byte, more ...byte) []byte {
	hash := sha256.Sum256([]byte(site))
	return append(append(hash[:], flags, 0, 0, 0, 7), more...)
}

func (a *authenticator) attested(t testing.TB) []byte {
	t.Helper()
	public, err := a.private.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	b := binary.BigEndian.AppendUint16(make([]byte, 16), uint16(len(a.id)))
	b = append(append(b, a.id...), "\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20"...)
	b = append(append(b, public[1:33]...), "\x22\x58\x20"...)
	return append(b, public[33:]...)
}

func (a *authenticator) sign(t testing.TB, client, data []byte) *Assertion {
	t.Helper()
	hash := sha256.Sum256(client)
	digest := sha256.Sum256(append(bytes.Clone(data), hash[:]...))
	signature, err := ecdsa.SignASN1(rand.Reader, a.private, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return &Assertion{a.id, client, data, signature}
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The vectors of the standard: their keys are read and their signatures verify, and each is refused,
// since none of the users was verified.
func TestVectorsOfTheStandard(t *testing.T) {
	var file struct {
		Vectors []struct {
			Name, Origin string
			Registration struct {
				Challenge  string
				ClientData string `json:"client_data"`
				Data       string `json:"authenticator_data"`
			}
			Assertion struct {
				ID, Challenge, Signature string
				ClientData               string `json:"client_data"`
				Data                     string `json:"authenticator_data"`
			}
		}
	}
	b, err := os.ReadFile("testdata/webauthn-level3.json")
	if err == nil {
		err = json.Unmarshal(b, &file)
	}
	if err != nil || len(file.Vectors) != 2 {
		t.Fatal(len(file.Vectors), err)
	}
	for _, v := range file.Vectors {
		r, a := v.Registration, v.Assertion
		challenge := [32]byte(unhex(t, r.Challenge))
		made := unhex(t, r.Data)
		if _, err := Register(unhex(t, r.ClientData), made, challenge, v.Origin); !errors.Is(err, ErrUnverified) {
			t.Errorf("%s: %v", v.Name, err)
		}
		made[32] |= verified // as if it had verified its user: nothing is signed
		c, err := Register(unhex(t, r.ClientData), made, challenge, v.Origin)
		if err != nil {
			t.Fatalf("%s: %v", v.Name, err)
		}
		got := &Assertion{unhex(t, a.ID), unhex(t, a.ClientData), unhex(t, a.Data), unhex(t, a.Signature)}
		if err := c.Verify(got, [32]byte(unhex(t, a.Challenge))); !errors.Is(err, ErrUnverified) {
			t.Errorf("%s: %v", v.Name, err)
		}
		if err := c.signed(got); err != nil {
			t.Errorf("%s: %v", v.Name, err)
		}
		if !isClientData(got.ClientData, "webauthn.get", [32]byte(unhex(t, a.Challenge)), v.Origin) {
			t.Errorf("%s: the client data are refused", v.Name)
		}
		if got.AuthenticatorData[36] ^= 1; c.signed(got) == nil {
			t.Errorf("%s: a changed counter verifies", v.Name)
		}
	}
}

func TestAPasskey(t *testing.T) {
	a := newAuthenticator(t)
	challenge := [32]byte{1, 2, 3}
	made := data(RPID(origin), present|verified|attested|backupable|backedUp, a.attested(t)...)
	c, err := Register(clientData("webauthn.create", origin, challenge, `,"crossOrigin":false`), made, challenge, origin)
	if err != nil {
		t.Fatal(err)
	}
	get := data(RPID(origin), present|verified)
	for name, more := range map[string]string{
		"as browsers write it": `,"crossOrigin":false`,
		"with more to come":    `,"crossOrigin":false,"other_keys_can_be_added_here":"do not compare"`,
		"without frames":       ``,
	} {
		if err := c.Verify(a.sign(t, clientData("webauthn.get", origin, challenge, more), get), challenge); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.Verify(a.sign(t, clientData("webauthn.get", origin, challenge, ""), data(RPID(origin), present|verified|extended, 0xa0)), challenge); err != nil {
		t.Errorf("with extensions: %v", err)
	}
	good := clientData("webauthn.get", origin, challenge, `,"crossOrigin":false`)
	for name, c2 := range map[string]struct {
		client, data []byte
		want         error
	}{
		"another challenge":        {clientData("webauthn.get", origin, [32]byte{9}, ""), get, ErrClientData},
		"a registration's":         {clientData("webauthn.create", origin, challenge, ""), get, ErrClientData},
		"another origin":           {clientData("webauthn.get", "https://void.example.com.evil.example", challenge, ""), get, ErrClientData},
		"another port":             {clientData("webauthn.get", origin+":8443", challenge, ""), get, ErrClientData},
		"in a frame":               {clientData("webauthn.get", origin, challenge, `,"crossOrigin":true`), get, ErrClientData},
		"frames said twice":        {clientData("webauthn.get", origin, challenge, `,"crossOrigin":true,"crossOrigin":false`), get, ErrClientData},
		"in another order":         {[]byte(`{"challenge":"` + base64.RawURLEncoding.EncodeToString(challenge[:]) + `","type":"webauthn.get","origin":"` + origin + `"}`), get, ErrClientData},
		"nothing":                  {nil, get, ErrClientData},
		"without an end":           {good[:len(good)-1], get, ErrClientData},
		"too much":                 {clientData("webauthn.get", origin, challenge, `,"crossOrigin":false,"a":"`+strings.Repeat("x", MaxClientData)+`"`), get, ErrClientData},
		"another site":             {good, data("example.com", present|verified), ErrAuthenticator},
		"nobody there":             {good, data(RPID(origin), verified), ErrUnverified},
		"somebody":                 {good, data(RPID(origin), present), ErrUnverified},
		"no data":                  {good, nil, ErrAuthenticator},
		"cut short":                {good, get[:36], ErrAuthenticator},
		"more than it says":        {good, data(RPID(origin), present|verified, 1), ErrAuthenticator},
		"a key in it":              {good, made, ErrAuthenticator},
		"a flag that is none":      {good, data(RPID(origin), present|verified|1<<5), ErrAuthenticator},
		"backed up, and cannot be": {good, data(RPID(origin), present|verified|backedUp), ErrAuthenticator},
	} {
		if err := c.Verify(a.sign(t, c2.client, c2.data), challenge); !errors.Is(err, c2.want) {
			t.Errorf("%s: %v, want %v", name, err, c2.want)
		}
	}
	other := newAuthenticator(t)
	if err := c.Verify(other.sign(t, good, get), challenge); !errors.Is(err, ErrSignature) {
		t.Errorf("another key with this identifier: %v", err)
	}
	other.id = bytes.Repeat([]byte{1}, 16)
	if err := c.Verify(other.sign(t, good, get), challenge); !errors.Is(err, ErrCredential) {
		t.Errorf("another passkey: %v", err)
	}
	for i := range get {
		x := a.sign(t, good, get)
		if x.AuthenticatorData = bytes.Clone(get); true {
			x.AuthenticatorData[i] ^= 0x40
		}
		if c.Verify(x, challenge) == nil {
			t.Errorf("data changed at %d verify", i)
		}
	}
}

func TestRegistrationsThatAreNone(t *testing.T) {
	a := newAuthenticator(t)
	challenge := [32]byte{1, 2, 3}
	client := clientData("webauthn.create", origin, challenge, `,"crossOrigin":false`)
	const flags = present | verified | attested
	key := a.attested(t)
	changed := func(at int, b byte) []byte {
		k := bytes.Clone(key)
		k[at] = b
		return k
	}
	long := *a
	long.id = make([]byte, MaxID+1)
	short := *a
	short.id = make([]byte, MinID-1)
	for name, c := range map[string]struct {
		client, data []byte
		origin       string
		want         error
	}{
		"an assertion's":        {clientData("webauthn.get", origin, challenge, ""), data(RPID(origin), flags, key...), origin, ErrClientData},
		"an origin without TLS": {clientData("webauthn.create", "http://void.example.com", challenge, ""), data(RPID(origin), flags, key...), "http://void.example.com", ErrClientData},
		"no key":                {client, data(RPID(origin), present|verified), origin, ErrAuthenticator},
		"no key behind":         {client, data(RPID(origin), flags), origin, ErrAuthenticator},
		"more than a key":       {client, data(RPID(origin), flags, append(bytes.Clone(key), 0)...), origin, ErrAuthenticator},
		"half a key":            {client, data(RPID(origin), flags, key[:len(key)-1]...), origin, ErrKey},
		"an RSA key":            {client, data(RPID(origin), flags, changed(16+2+20+2, 3)...), origin, ErrKey},
		"off the curve":         {client, data(RPID(origin), flags, changed(len(key)-1, key[len(key)-1]^1)...), origin, ErrKey},
		"a long identifier":     {client, data(RPID(origin), flags, long.attested(t)...), origin, ErrAuthenticator},
		"a short identifier":    {client, data(RPID(origin), flags, short.attested(t)...), origin, ErrAuthenticator},
		"nobody verified":       {client, data(RPID(origin), present|attested, key...), origin, ErrUnverified},
	} {
		if got, err := Register(c.client, c.data, challenge, c.origin); !errors.Is(err, c.want) || got.ID != nil {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestOrigins(t *testing.T) {
	for _, good := range []string{"https://void.example.com", "https://localhost:8443", "https://a-b.c1", "https://1.example"} {
		if !ValidOrigin(good) {
			t.Errorf("%s is refused", good)
		}
	}
	for _, bad := range []string{
		"", "https://", "http://void.example.com", "https://Void.example.com", "https://void.example.com/", "https://void.example.com:443", "https://void.example.com:", "https://void.example.com:08",
		"https://void..example.com", "https://-a.example", "https://a-.example", "https://127.0.0.1", "https://[::1]", "https://user@void.example.com", "https://void.example.com:123456", "https://a\".example",
		"https://" + strings.Repeat("a", MaxOrigin),
	} {
		if ValidOrigin(bad) {
			t.Errorf("%s is taken", bad)
		}
	}
	if got := RPID("https://localhost:8443"); got != "localhost" {
		t.Error(got)
	}
}

// Whatever comes is refused with an error of this package, or is what it says.
func FuzzRegister(f *testing.F) {
	a := newAuthenticator(f)
	challenge := [32]byte{1}
	f.Add(clientData("webauthn.create", origin, challenge, `,"crossOrigin":false`), data(RPID(origin), present|verified|attested, a.attested(f)...))
	f.Add([]byte(`{"type":"webauthn.create"`), []byte{})
	f.Fuzz(func(t *testing.T, client, data []byte) {
		c, err := Register(client, data, challenge, origin)
		if err != nil {
			return
		}
		if !c.Valid() || c.Origin != origin || !bytes.Contains(data, c.ID) {
			t.Errorf("%#v", c)
		}
	})
}

func FuzzVerify(f *testing.F) {
	a := newAuthenticator(f)
	challenge := [32]byte{1}
	public, err := a.private.PublicKey.Bytes()
	if err != nil {
		f.Fatal(err)
	}
	c := Credential{a.id, public, origin}
	x := a.sign(f, clientData("webauthn.get", origin, challenge, `,"crossOrigin":false`), data(RPID(origin), present|verified))
	f.Add(x.ID, x.ClientData, x.AuthenticatorData, x.Signature)
	f.Fuzz(func(t *testing.T, id, client, data, signature []byte) {
		if err := c.Verify(&Assertion{id, client, data, signature}, challenge); err == nil && !bytes.Equal(data, x.AuthenticatorData) {
			t.Error("what the passkey has not signed verifies")
		}
	})
}
