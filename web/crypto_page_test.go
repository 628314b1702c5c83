package web

import (
	"crypto/aes"
	"crypto/ecdh"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"testing"

	"keyd/pinblock"
	"keyd/pinrecord"
)

// What the page computes is what package pinrecord says, byte by byte, for keys and random bytes that
// are always the same.
func TestThePagesCryptography(t *testing.T) {
	p := newPhone(t, serve(t), "en")
	p.Open("/p")
	p.Title("This link cannot be used")
	private := func(n byte) *ecdh.PrivateKey {
		scalar := make([]byte, 32)
		scalar[0], scalar[31] = n, n
		k, err := ecdh.P256().NewPrivateKey(scalar)
		must(t, err)
		return k
	}
	modules, own := private(7), private(9)
	z, err := modules.ECDH(own.PublicKey())
	must(t, err)
	text := base64.RawURLEncoding.EncodeToString
	jwk := map[string]string{"kty": "EC", "crv": "P-256", "d": text(own.Bytes()), "x": text(own.PublicKey().Bytes()[1:33]), "y": text(own.PublicKey().Bytes()[33:])}
	digest := sha256.Sum256([]byte("a void or an approval"))
	data := []byte("authenticator data")
	for i, c := range []struct {
		subject pinrecord.Subject
		pin     string
	}{
		{pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "m-17", Name: "dora"}, "739104"},
		{pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: "m-17", Terminal: "t-1", Name: "dora"}, "000000000000"},
		{pinrecord.Subject{Kind: pinrecord.Passkey, Merchant: "M.17_x", Name: "e"}, "40718293"},
		{pinrecord.Subject{Kind: pinrecord.Cardholder, Name: "card.x"}, "1234"},
	} {
		s := c.subject
		subject := s.Digest()
		contexts := []pinrecord.Context{pinrecord.OfVoid(digest, &s), pinrecord.OfCode(digest, &s), pinrecord.OfNewPIN(digest, &s), pinrecord.OfPasskey(digest, &s, data)}
		random := [8]byte{1, 2, 3, 4, 5, 6, 7, byte(i)}
		parameters, err := json.Marshal(map[string]any{
			"subject": map[string]string{"kind": string(s.Kind), "merchant": s.Merchant, "terminal": s.Terminal, "name": s.Name},
			"digest":  text(digest[:]), "data": text(data), "jwk": jwk, "modules": text(modules.PublicKey().Bytes()), "random": text(random[:]), "pin": c.pin,
		})
		must(t, err)
		got := eval[map[string]any](p, fmt.Sprintf(`(async (p) => {
			const c = await import(%q), b = await import(%q);
			const subject = await c.subjectDigest(p.subject), digest = b.fromText(p.digest);
			const contexts = [await c.forVoid(digest, subject), await c.forCode(digest, subject), await c.forNewPIN(digest, subject), await c.forPasskey(digest, subject, b.fromText(p.data))];
			const curve = {name: "ECDH", namedCurve: "P-256"}, {d, ...open} = p.jwk;
			const own = {privateKey: await crypto.subtle.importKey("jwk", p.jwk, curve, false, ["deriveBits"]), publicKey: await crypto.subtle.importKey("jwk", open, curve, true, [])};
			const blocks = [];
			for (const context of contexts) {
				const e = await c.encipherWith(own, b.fromText(p.random), Uint8Array.from(p.pin, Number), b.fromText(p.modules), subject, context);
				blocks.push(b.toText(e.point), b.toText(e.block));
			}
			const digits = Uint8Array.from(p.pin, Number);
			await c.encipher(digits, b.fromText(p.modules), subject, contexts[0]);
			return {subject: b.toText(subject), number: c.subjectNumber(subject).join(""), contexts: contexts.map(b.toText), blocks, wiped: digits.every((d) => d === 0)};
		})(%s)`, p.modules["crypto.js"], p.modules["bytes.js"], parameters))

		var wantContexts, wantBlocks []string
		for _, context := range contexts {
			wantContexts = append(wantContexts, text(context[:]))
			wantBlocks = append(wantBlocks, text(own.PublicKey().Bytes()), text(block(t, z, modules, own, &s, c.pin, random, context)))
		}
		want, err := json.Marshal(map[string]any{"subject": text(subject[:]), "number": s.Number(), "contexts": wantContexts, "blocks": wantBlocks, "wiped": true})
		must(t, err)
		if have, err := json.Marshal(got); err != nil || string(have) != string(want) {
			t.Errorf("%+v:\n%s, want\n%s", s, have, want)
		}
	}
	p.Quiet()
}

// block is an entry as the standard has it, with the packages of the secret side.
func block(t *testing.T, z []byte, modules, own *ecdh.PrivateKey, s *pinrecord.Subject, digits string, random [8]byte, context pinrecord.Context) []byte {
	t.Helper()
	key := make([]byte, pinrecord.PhoneKeySize)
	pinrecord.PhoneKey(key, z, modules.PublicKey(), own.PublicKey(), context)
	pan, err := pinblock.ParsePAN(s.Number())
	must(t, err)
	var pin pinblock.PIN
	must(t, pin.SetDigits([]byte(digits)))
	b := make([]byte, 16)
	must(t, pinblock.Encode(b, pinblock.ISO4, &pin, pan, &random))
	cipher, err := aes.NewCipher(key)
	must(t, err)
	cipher.Encrypt(b, b)
	must(t, pan.XORField4(b))
	cipher.Encrypt(b, b)
	return b
}
