package ceremony_test

import (
	"bytes"
	"testing"

	"keyd/ceremony"
)

// FuzzProceedings asserts for any bytes: no panic, nothing returned with an error, and that
// what is accepted is the one encoding of what it says.
func FuzzProceedings(f *testing.F) {
	p := loading()
	f.Add(must(ceremony.Encode(&p.papers)))
	f.Add(must(ceremony.Encode(&ceremony.Proceedings{})))
	f.Add(must(ceremony.Encode(&newPlay(definitions()[ceremony.Masters]).papers)))
	f.Fuzz(func(t *testing.T, b []byte) {
		papers, err := ceremony.Decode[ceremony.Proceedings](b, 1<<20)
		if err != nil {
			if papers != nil {
				t.Fatal("papers were returned with an error")
			}
			return
		}
		if !bytes.Equal(must(ceremony.Encode(papers)), b) {
			t.Fatal("two encodings of one document")
		}
		c, err := papers.Check(&p.module.PublicKey, &p.roster, opened+5)
		if (err == nil) != (c != nil) {
			t.Fatal("something was returned with an error, or nothing without")
		}
		if c != nil {
			_, _, _ = c.Missing(), c.Officers(), c.CheckApprovals("D00DAD")
		}
	})
}

// FuzzParseEpoch asserts the same of epochs.
func FuzzParseEpoch(f *testing.F) {
	f.Add(sealedEpoch(nil))
	f.Add(sealedEpoch(func(e *ceremony.Epoch) { e.Keys, e.Done = nil, nil }))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ceremony.ParseEpoch(b)
		if err != nil {
			if e != nil {
				t.Fatal("an epoch was returned with an error")
			}
			return
		}
		if !bytes.Equal(must(ceremony.Encode(e)), b[:len(b)-ceremony.EpochMACSize]) || e.Roster.Validate() != nil {
			t.Fatal("what was accepted is no epoch")
		}
		for i := range e.Keys {
			k := &e.Keys[i]
			if e.Find(k.Name, k.Version) != k || e.Newest(k.Name) == nil {
				t.Fatal("an entry is not found")
			}
			_ = e.OtherPlace(k.Name, "alice", 1)
		}
	})
}

// FuzzParseOpening asserts the same of openings that a module has signed, whatever they say.
func FuzzParseOpening(f *testing.F) {
	p := loading()
	f.Add(p.papers.Opening.Document)
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, document []byte) {
		signed := ceremony.Signed{Document: document, Signature: p.papers.Opening.Signature}
		if o, digest, err := ceremony.ParseOpening(&p.module.PublicKey, signed); err == nil != bytes.Equal(document, p.papers.Opening.Document) || err != nil && (o != nil || digest != "") {
			t.Fatalf("%q: %v", document, err)
		}
		signed.Signature = must(ceremony.Sign(p.module, ceremony.OfOpening, document))
		o, digest, err := ceremony.ParseOpening(&p.module.PublicKey, signed)
		if err != nil {
			if o != nil || digest != "" {
				t.Fatal("an opening was returned with an error")
			}
			return
		}
		if !bytes.Equal(must(ceremony.Encode(o)), document) || !ceremony.ValidID(o.ID) || o.Identity != p.opening.Identity {
			t.Fatal("what was accepted is no opening of the module")
		}
	})
}

// FuzzParse asserts of any text as a file: no panic, nothing returned with an error, and that
// what is accepted is valid and has an encoding.
func FuzzParse(f *testing.F) {
	f.Add([]byte(bdkFile))
	f.Add([]byte("kind: export\ntarget: k\nunder: z?version=2\nexport: {version: D, blocks: [{id: \"10\", data: x}]}"))
	f.Add([]byte("kind: change\nquorum: {components: 2, approvals: 2, roster: 2}\nofficers: [{name: a, identity: i, key: k.pem}]\n"))
	f.Add([]byte("kind: delete\ntarget: k\nwait: 72h\n---\nkind: stop"))
	f.Add([]byte("a: &a [*a, *a]\n? [b]\n: !!binary x"))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		d, err := ceremony.Parse(text, dir)
		if err != nil {
			if d != nil {
				t.Fatal("a definition was returned with an error")
			}
			return
		}
		if err := d.Validate(); err != nil {
			t.Fatal(err)
		}
		encoded := must(ceremony.Encode(d))
		if len(encoded) <= ceremony.MaxDocument {
			if _, err := ceremony.Decode[ceremony.Definition](encoded, ceremony.MaxDocument); err != nil {
				t.Fatalf("%s: %v", encoded, err)
			}
		}
	})
}
