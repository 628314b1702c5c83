package eavesdrop

import (
	"encoding/hex"
	"fmt"
	"slices"
	"testing"
)

// Wire is what somebody knows who has listened from the mark on.
type Wire struct {
	objects  map[uint64]*object // by handle, at present
	all      []*object
	rules    []func()
	active   map[string]use // what was begun, by session and name
	books    map[under]book
	tries    map[*object][2]int // with how many unknown bits of a key and its image all keys were tried
	buffers  []buffer
	by       map[string][]*object // objects that are the plain text of something, by that in hex
	before   int                  // calls before the mark
	changed  bool
	followed bool
	problems []string
}

// use is a call that was begun.
type use struct {
	key       *object
	mechanism uint64
}

// buffer is something that crossed.
type buffer struct {
	call  int
	where string
	value []byte
}

// Listen reads a record. What follows from it is computed by [Wire.Find].
func Listen(t testing.TB, r *Recording) *Wire {
	t.Helper()
	before, after, err := r.calls()
	if err != nil {
		t.Fatal(err)
	}
	if len(after) == 0 {
		t.Fatal("nothing was recorded after the mark")
	}
	w := &Wire{
		before: len(before), objects: map[uint64]*object{}, active: map[string]use{}, books: map[under]book{}, tries: map[*object][2]int{}, by: map[string][]*object{},
	}
	for _, c := range before {
		w.unheard(c)
	}
	for _, c := range after {
		w.hear(c)
	}
	if r.spy != "" {
		calls := r.spied(t)
		if len(calls) < len(after) {
			t.Fatalf("pkcs11-spy shows %d calls of %d", len(calls), len(after))
		}
		w.spied(calls)
	}
	return w
}

func (w *Wire) wrong(problem string) {
	if !slices.Contains(w.problems, problem) {
		w.problems = append(w.problems, problem)
	}
}

// at is the object of a handle; one that nobody has heard of is the token's own.
func (w *Wire) at(handle uint64) *object {
	if w.objects[handle] == nil {
		w.objects[handle] = &object{made: "something before"}
		w.all = append(w.all, w.objects[handle])
	}
	return w.objects[handle]
}

// made is a new object of a handle; length is its length in bits, 0 where that is not known.
func (w *Wire) made(c call, field string, length int) *object {
	o := &object{made: c.String(), call: c.number}
	if length > 0 {
		o.known = nothing(length)
	}
	w.objects[c.uint(field)] = o
	w.all = append(w.all, o)
	return o
}

// unheard follows the handles of a call that came before the mark.
func (w *Wire) unheard(c call) {
	if !c.done() {
		return
	}
	switch c.name {
	case "C_DestroyObject":
		delete(w.objects, c.uint("object"))
	case "C_CreateObject", "C_GenerateKey", "C_UnwrapKey", "C_DeriveKey", "C_GenerateKeyPair":
		length := c.said()
		if v := c.attribute("template", ckaValue); v != nil {
			length = 8 * len(v)
		}
		w.made(c, "object", length)
		if c.name == "C_GenerateKeyPair" {
			w.made(c, "private", 0)
		}
	}
}

// hear takes a call up: its buffers, and what it makes of objects.
func (w *Wire) hear(c call) {
	for _, field := range []string{"in", "data", "parameter", "signature", "shared"} {
		w.crossed(c, field)
	}
	if c.name == "C_GetAttributeValue" {
		if v := c.attribute("out", ckaValue); v != nil {
			o := w.at(c.uint("object"))
			w.buffers = append(w.buffers, buffer{c.number, c.String() + " CKA_VALUE", v})
			w.rules = append(w.rules, func() { w.whole(o, v, c.String()) })
		}
		return
	}
	w.crossed(c, "out")
	session := c.fields["session"]
	switch c.name {
	case "C_EncryptInit", "C_DecryptInit", "C_SignInit", "C_VerifyInit":
		if c.fields["mechanism"] != "" {
			w.active[session+c.name] = use{w.at(c.uint("key")), c.uint("mechanism")}
		}
	case "C_Encrypt":
		w.ran(c, w.active[session+"C_EncryptInit"], c.bytes("in"), c.bytes("out"))
	case "C_Decrypt":
		w.ran(c, w.active[session+"C_DecryptInit"], c.bytes("out"), c.bytes("in"))
	}
	if !c.done() {
		return
	}
	switch c.name {
	case "C_DestroyObject":
		delete(w.objects, c.uint("object"))
	case "C_CreateObject":
		v := c.attribute("template", ckaValue)
		o := w.made(c, "object", 8*len(v))
		w.buffers = append(w.buffers, buffer{c.number, c.String() + " CKA_VALUE", v})
		w.rules = append(w.rules, func() { w.learn(o, 0, bitsOf(v), c.String()) })
	case "C_GenerateKey":
		w.made(c, "object", c.said())
	case "C_GenerateKeyPair":
		w.made(c, "object", 0)
		w.made(c, "private", 0)
	case "C_WrapKey":
		w.wraps(c, w.at(c.uint("object")), c.bytes("out"))
	case "C_UnwrapKey":
		text := c.bytes("in")
		length := c.said()
		if m := c.uint("mechanism"); length == 0 && (m == ckmAESECB || m == ckmDES3ECB) {
			length = 8 * len(text)
		}
		key := w.at(c.uint("key"))
		o := w.made(c, "object", length)
		w.unwraps(c, key, o, text)
	case "C_DeriveKey":
		w.derives(c)
	}
}

func (w *Wire) crossed(c call, field string) {
	if b := c.bytes(field); len(b) > 0 {
		w.buffers = append(w.buffers, buffer{c.number, c.String() + " " + field, b})
	}
}

// ran is data that were enciphered or deciphered in the token, and so crossed in both forms.
func (w *Wire) ran(c call, begun use, plain, enciphered []byte) {
	if !c.done() || begun.key == nil || plain == nil || enciphered == nil {
		return
	}
	switch begun.mechanism {
	case ckmAESECB, ckmDES3ECB:
		w.rules = append(w.rules, func() { w.seen(under{begun.key, begun.mechanism == ckmAESECB}, plain, enciphered) })
	}
}

func (w *Wire) wraps(c call, o *object, text []byte) {
	key := w.at(c.uint("key"))
	if text != nil { // else only its length was asked for
		w.unwraps(c, key, o, text)
	}
}

// unwraps is a text that is what an object is enciphered to.
func (w *Wire) unwraps(c call, key, o *object, text []byte) {
	why, m := c.String(), c.uint("mechanism")
	w.by[hex.EncodeToString(text)] = append(w.by[hex.EncodeToString(text)], o)
	switch m {
	case ckmAESECB, ckmDES3ECB:
		w.rules = append(w.rules, func() { w.ciphered(under{key, m == ckmAESECB}, o, text, why) })
	case ckmKWP, ckmKWP3, ckmNSSKWP:
		w.rules = append(w.rules, func() { w.keyWrapped(under{key, true}, o, text, why) })
	default:
		w.rules = append(w.rules, func() {
			if _, ok := key.known.value(); ok {
				w.wrong(fmt.Sprintf("%s: mechanism %#x under a key that is known, which this package does not compute", why, m))
			}
		})
	}
}

// derives is an object that is made of another.
func (w *Wire) derives(c call) {
	base, data, why, m := w.at(c.uint("key")), c.bytes("data"), c.String(), c.uint("mechanism")
	length := c.said()
	var rule func(o *object)
	switch m {
	case ckmXOR:
		rule = func(o *object) { w.xored(o, base, data, why) }
	case ckmConcatenateData:
		rule = func(o *object) { w.joined(o, base, data, nil, why) }
	case ckmConcatenateDataFirst:
		rule = func(o *object) { w.joined(o, nil, data, base, why) }
	case ckmConcatenateKey:
		second := w.at(little(c.bytes("parameter")))
		rule = func(o *object) { w.joined(o, base, nil, second, why) }
	case ckmExtract:
		from := int(little(c.bytes("parameter")))
		rule = func(o *object) { w.taken(o, base, from, why) }
	case ckmAESEncryptData, ckmDES3EncryptData:
		if length == 0 {
			length = 8 * len(data)
		}
		rule = func(o *object) { w.imaged(under{base, m == ckmAESEncryptData}, o, data, why) }
	case ckmECDH1:
		if kdf := c.uint("kdf"); kdf != 1 {
			w.wrong(fmt.Sprintf("%s: key derivation function %#x, which this package does not compute", why, kdf))
		}
		rule = func(o *object) { w.agreed(o, base, data, why) }
	default:
		w.wrong(fmt.Sprintf("%s: mechanism %#x, which this package does not compute", why, m))
		return
	}
	o := w.made(c, "object", length)
	w.rules = append(w.rules, func() { rule(o) })
}

// little reads a CK_ULONG of this machine.
func little(b []byte) (n uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		n = n<<8 | uint64(b[i])
	}
	return n
}

// Assume says what somebody knows of the value that is enciphered to something: hex digits, with a point for
// each that nobody may know, and a question mark for each that is not known and no secret. It reports whether
// there is such a value.
func (w *Wire) Assume(enciphered []byte, digits string) bool {
	list := w.by[hex.EncodeToString(enciphered)]
	for _, o := range list {
		if o.known == nil {
			o.known = nothing(4 * len(digits))
		}
		w.learn(o, 0, pattern(digits), "what is known beforehand")
		w.followed = false
	}
	return len(list) > 0
}

// Known returns what somebody knows of it, with a point for each digit that he does not.
func (w *Wire) Known(enciphered []byte) []string {
	w.follow()
	var list []string
	for _, o := range w.by[hex.EncodeToString(enciphered)] {
		list = append(list, o.known.hex())
	}
	return list
}

// Followed is how many bits follow of the digits of it that are points ([Wire.Assume]).
func (w *Wire) Followed(enciphered []byte, digits string) (n int) {
	w.follow()
	for _, o := range w.by[hex.EncodeToString(enciphered)] {
		for i := range min(len(o.known), 4*len(digits)) {
			if digits[i/4] == '.' && o.known[i] != unknown {
				n++
			}
		}
	}
	return n
}

// follow applies the rules until nothing is learned any more.
func (w *Wire) follow() {
	if w.followed {
		return
	}
	w.followed = true
	for w.changed = true; w.changed; {
		w.changed = false
		for _, rule := range w.rules {
			rule()
		}
		for _, rule := range slices.Backward(w.rules) {
			rule()
		}
	}
}
