package checkpoint_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"keyd/ceremony"
	"keyd/checkpoint"
)

const origin = "keyd/0123456789abcdef0123456789abcdef"

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func signed(t testing.TB, key *ecdsa.PrivateKey, tree checkpoint.Tree) *checkpoint.Checkpoint {
	t.Helper()
	signature, err := checkpoint.Sign(key, origin, tree)
	if err != nil {
		t.Fatal(err)
	}
	c, err := checkpoint.Assemble(origin, tree, &key.PublicKey, signature)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var someTree = checkpoint.Tree{Size: 20852163, Root: tlog.RecordHash([]byte("root"))}

func TestOrigins(t *testing.T) {
	for _, node := range []string{"", "a", "host-1.payments.example", strings.Repeat("a", 63)} {
		o, err := checkpoint.NewOrigin(node)
		if err != nil || !checkpoint.ValidOrigin(o) || len(o) > checkpoint.MaxOrigin {
			t.Errorf("%q: %q, %v", node, o, err)
		}
	}
	for _, node := range []string{"A", "a b", "a/b", "-a", "a.", strings.Repeat("a", 64), "ü"} {
		if o, err := checkpoint.NewOrigin(node); !errors.Is(err, checkpoint.ErrNode) {
			t.Errorf("%q: %q, %v", node, o, err)
		}
	}
	for _, o := range []string{"", "keyd/", "keyd " + origin[5:], origin + "\n", origin[:36], origin + "0", "keyd//" + origin[5:], "keyd/a/b/" + origin[5:], strings.ToUpper(origin)} {
		if checkpoint.ValidOrigin(o) {
			t.Errorf("%q is an origin", o)
		}
	}
}

// A checkpoint is a note that an independent reader of the format opens, and it has the lines
// and the identifier of the key that the specifications say.
func TestFormat(t *testing.T) {
	key := newKey(t)
	c := signed(t, key, someTree)
	want := origin + "\n20852163\n" + base64.StdEncoding.EncodeToString(someTree.Root[:]) + "\n\n— " + origin + " "
	if !strings.HasPrefix(string(c.Note), want) {
		t.Errorf("%s", c.Note)
	}
	der, err := checkpoint.MarshalKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(der)
	id := binary.BigEndian.Uint32(sum[:])
	if c.KeyID() != id {
		t.Errorf("key %08x, want %08x", c.KeyID(), id)
	}
	n, err := note.Open(c.Note, note.VerifierList(plain{id, &key.PublicKey}))
	if err != nil || len(n.Sigs) != 1 || n.Text != want[:strings.Index(want, "\n\n")+1] {
		t.Errorf("%+v, %v", n, err)
	}
}

// plain verifies as the specification says, without this package.
type plain struct {
	id  uint32
	key *ecdsa.PublicKey
}

func (plain) Name() string      { return origin }
func (p plain) KeyHash() uint32 { return p.id }
func (p plain) Verify(msg, sig []byte) bool {
	digest := sha256.Sum256(msg)
	return ecdsa.VerifyASN1(p.key, digest[:], sig)
}

// Every bit of a checkpoint, turned, is found.
func TestEveryTurnedBitIsFound(t *testing.T) {
	key := newKey(t)
	c := signed(t, key, someTree)
	for i := range len(c.Note) * 8 {
		changed := bytes.Clone(c.Note)
		changed[i/8] ^= 1 << (i % 8)
		got, err := checkpoint.Parse(changed)
		if err == nil {
			err = got.Verify(&key.PublicKey)
		} else if got != nil {
			t.Errorf("bit %d: a checkpoint beside an error", i)
		}
		if !errors.Is(err, checkpoint.ErrNote) && !errors.Is(err, checkpoint.ErrSignature) {
			t.Errorf("bit %d: %v", i, err)
		}
	}
	if err := c.Verify(&newKey(t).PublicKey); !errors.Is(err, checkpoint.ErrSignature) {
		t.Errorf("another key: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	note := string(signed(t, newKey(t), someTree).Note)
	head, signature, _ := strings.Cut(note, "\n\n")
	for name, text := range map[string]string{
		"nothing":                 "",
		"no signature":            head + "\n\n",
		"cut":                     note[:len(note)-1],
		"something behind it":     note + "\n",
		"something before it":     "\n" + note,
		"carriage returns":        strings.ReplaceAll(note, "\n", "\r\n"),
		"leading zero":            strings.Replace(note, "\n2", "\n02", 1),
		"plus sign":               strings.Replace(note, "\n2", "\n+2", 1),
		"no size":                 strings.Replace(note, "20852163", "0", 1),
		"too many entries":        strings.Replace(note, "20852163", "281474976710657", 1),
		"an extension":            head + "\nmore\n\n" + signature,
		"signed twice by the log": note + signature,
		"another's name":          head + "\n\n" + strings.Replace(signature, "keyd/0", "keyd/1", 1),
		"no text behind the name": head + "\n\n— " + origin + "\n",
		"too long":                note + strings.Repeat("— witness AAAA\n", checkpoint.MaxNote/16),
	} {
		if c, err := checkpoint.Parse([]byte(text)); !errors.Is(err, checkpoint.ErrNote) || c != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Whoever else has signed it does not matter.
	if _, err := checkpoint.Parse([]byte(note + "— witness.example/1 AAAAAAAAAAAA\n")); err != nil {
		t.Errorf("with a witness: %v", err)
	}
}

// What a module signs beside checkpoints is none, and a checkpoint is nothing else, whatever
// the hash function.
func TestCheckpointsAreApart(t *testing.T) {
	key := newKey(t)
	text := checkpoint.Text(origin, someTree)
	c := signed(t, key, someTree)
	for _, purpose := range []ceremony.Purpose{ceremony.ByOfficer, ceremony.OfOpening, ceremony.OfRecord, ceremony.OfIdentity} {
		if string(purpose[:5]) == string(text[:5]) || purpose[:4] != "keyd" {
			t.Errorf("%q begins like a checkpoint", purpose)
		}
		signature, err := ceremony.Sign(key, purpose, text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := checkpoint.Assemble(origin, someTree, &key.PublicKey, signature); !errors.Is(err, checkpoint.ErrSignature) {
			t.Errorf("%q: %v", purpose, err)
		}
		raw, err := base64.StdEncoding.DecodeString(string(c.Note[bytes.LastIndexByte(c.Note, ' ')+1 : len(c.Note)-1]))
		if err != nil {
			t.Fatal(err)
		}
		if ceremony.Verify(&key.PublicKey, purpose, text, raw[4:]) == nil {
			t.Errorf("%q: a checkpoint's signature is one", purpose)
		}
	}
	if _, err := checkpoint.Sign(key, "keyd ceremony record 1", someTree); !errors.Is(err, checkpoint.ErrNote) {
		t.Errorf("an origin that is none is signed: %v", err)
	}
}

// hashes are those of a log of lines, for proofs.
func hashes(t *testing.T, lines int) tlog.HashReaderFunc {
	t.Helper()
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(indexes []int64) (list []tlog.Hash, err error) {
		for _, i := range indexes {
			list = append(list, stored[i])
		}
		return list, nil
	})
	for i := range lines {
		more, err := tlog.StoredHashes(int64(i), []byte{byte(i)}, read)
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, more...)
	}
	return read
}

func TestFollows(t *testing.T) {
	const most = 40
	stored := hashes(t, most)
	tree := func(n int) checkpoint.Tree {
		root, err := tlog.TreeHash(int64(n), stored)
		if err != nil {
			t.Fatal(err)
		}
		return checkpoint.Tree{Size: uint64(n), Root: root}
	}
	for n := 1; n <= most; n++ {
		if err := tree(n).Follows(checkpoint.Tree{}, nil); err != nil {
			t.Errorf("%d after nothing: %v", n, err)
		}
		for was := 1; was < n; was++ {
			proof, err := tlog.ProveTree(int64(n), int64(was), stored)
			if err != nil {
				t.Fatal(err)
			}
			now, before := tree(n), tree(was)
			if err := now.Follows(before, proof); err != nil {
				t.Fatalf("%d after %d: %v", n, was, err)
			}
			if err := before.Follows(now, proof); !errors.Is(err, checkpoint.ErrOlder) {
				t.Errorf("%d after %d: %v", was, n, err)
			}
			wrong := now
			wrong.Root[3] ^= 1
			other := before
			other.Root[3] ^= 1
			for what, err := range map[string]error{
				"another tree now": wrong.Follows(before, proof), "another tree before": now.Follows(other, proof),
				"no proof": now.Follows(before, nil), "a long proof": now.Follows(before, append(proof, proof...)),
				"an endless proof": now.Follows(before, make([]tlog.Hash, checkpoint.MaxProof+1)),
			} {
				if what == "no proof" && len(proof) == 0 {
					continue
				}
				if !errors.Is(err, checkpoint.ErrInconsistent) {
					t.Errorf("%d after %d, %s: %v", n, was, what, err)
				}
			}
		}
		for seq := 1; seq <= n; seq++ {
			proof, err := tlog.ProveRecord(int64(n), int64(seq-1), stored)
			if err != nil {
				t.Fatal(err)
			}
			if err := tree(n).Has(uint64(seq), []byte{byte(seq - 1)}, proof); err != nil {
				t.Errorf("entry %d of %d: %v", seq, n, err)
			}
			for what, err := range map[string]error{
				"another line":  tree(n).Has(uint64(seq), []byte{byte(seq)}, proof),
				"another place": tree(n).Has(uint64(seq%n+1), []byte{byte(seq - 1)}, proof),
				"none":          tree(n).Has(0, []byte{byte(seq - 1)}, proof),
				"behind it":     tree(n).Has(uint64(n+1), []byte{byte(seq - 1)}, proof),
			} {
				if what == "another place" && n == 1 {
					continue
				}
				if !errors.Is(err, checkpoint.ErrProof) {
					t.Errorf("entry %d of %d, %s: %v", seq, n, what, err)
				}
			}
		}
	}
	same := tree(7)
	if err := same.Follows(same, nil); err != nil {
		t.Errorf("the same again: %v", err)
	}
	other := same
	other.Root[0] ^= 1
	if err := other.Follows(same, nil); !errors.Is(err, checkpoint.ErrInconsistent) {
		t.Errorf("another of the same size: %v", err)
	}
	if err := (checkpoint.Tree{}).Follows(checkpoint.Tree{}, nil); err == nil {
		t.Error("a tree over nothing is none")
	}
}

func TestLists(t *testing.T) {
	key := newKey(t)
	var list []byte
	for n := range uint64(3) {
		list = signed(t, key, checkpoint.Tree{Size: n + 1}).AppendTo(list)
	}
	all, rest, err := checkpoint.ParseList(list)
	if err != nil || rest != 0 || len(all) != 3 || all[2].Size != 3 {
		t.Fatalf("%d, %d, %v", len(all), rest, err)
	}
	one := len(list) / 3
	for cut := range list { // every beginning is what came before, and a rest
		all, rest, err := checkpoint.ParseList(list[:cut])
		if whole := strings.Count(string(list[:cut]), "\n") / 6; err != nil || len(all) != whole || rest != cut-len(strings.Join(strings.SplitAfter(string(list), "\n")[:6*whole], "")) {
			t.Fatalf("cut at %d: %d and %d bytes, %v", cut, len(all), rest, err)
		}
	}
	if all, rest, err := checkpoint.ParseList(append(bytes.Clone(list), make([]byte, 100)...)); err != nil || len(all) != 3 || rest != 100 {
		t.Errorf("zeros: %d, %d, %v", len(all), rest, err)
	}
	for _, at := range []int{0, 40, one, 2*one + 30} {
		changed := bytes.Clone(list)
		changed[at] ^= 0x80
		if all, _, err := checkpoint.ParseList(changed); !errors.Is(err, checkpoint.ErrNote) || all != nil {
			t.Errorf("byte %d: %v", at, err)
		}
	}
}

func TestKeys(t *testing.T) {
	var text []byte
	for range 3 {
		pem, err := checkpoint.KeyPEM(&newKey(t).PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, pem...)
	}
	if keys, err := checkpoint.ParseKeys(text); err != nil || len(keys) != 3 {
		t.Errorf("%d, %v", len(keys), err)
	}
	for name, text := range map[string]string{
		"nothing": " \n", "text": "x", "text between": string(text[:len(text)/3]) + "x" + string(text[len(text)/3:]),
		"cut": string(text[:len(text)-30]), "private": strings.ReplaceAll(string(text), "PUBLIC", "PRIVATE"), "long": strings.Repeat(" ", 1<<20),
	} {
		if keys, err := checkpoint.ParseKeys([]byte(text)); !errors.Is(err, checkpoint.ErrKey) || keys != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	small, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := checkpoint.Sign(small, origin, someTree); !errors.Is(err, checkpoint.ErrKey) {
		t.Errorf("P-224: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	key := newKey(f)
	f.Add(signed(f, key, someTree).Note)
	f.Add([]byte("keyd/0\n1\n\n\n— "))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := checkpoint.Parse(text)
		if (c == nil) != (err != nil) {
			t.Fatal(c, err)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(c.Note, text) || !bytes.HasPrefix(text, checkpoint.Text(c.Origin, c.Tree)) || !c.Valid() {
			t.Errorf("%q is read as %+v", text, c)
		}
		if err := c.Verify(&key.PublicKey); err == nil && c.Tree != someTree {
			t.Errorf("%q is taken for signed", text)
		}
	})
}

func FuzzParseList(f *testing.F) {
	f.Add(signed(f, newKey(f), someTree).AppendTo(nil))
	f.Add([]byte("\n\n\n\n\n\n"))
	f.Fuzz(func(t *testing.T, list []byte) {
		all, rest, err := checkpoint.ParseList(list)
		if err != nil {
			return
		}
		var again []byte
		for _, c := range all {
			again = c.AppendTo(again)
		}
		if !bytes.Equal(again, list[:len(list)-rest]) {
			t.Errorf("%q", list)
		}
	})
}
