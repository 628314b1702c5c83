package voids

import (
	"bytes"
	"testing"

	"keyd/store"
	"keyd/voids/flow"
	"keyd/voidtoken"
)

// What is kept is read in one form only, and never in part.
func FuzzDecode(f *testing.F) {
	fields := voidtoken.Fields{Void: "00112233445566778899aabbccddeeff", Merchant: "m-17", Terminal: "t-1", Reference: "pay-1", Amount: 100, Currency: voidtoken.CNY}
	v := flow.Void{Fields: fields, State: flow.Created, Version: 1, At: 1, ExpiresAt: 2, Tries: 3, Applied: []flow.Applied{{Kind: flow.EventCreate, Request: "r"}}}
	good, err := content(&v)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(bytes.Replace(good, []byte(`"Amount"`), []byte(`"amount"`), 1))
	f.Add([]byte("{}"))
	f.Add([]byte("null"))
	r := store.VoidRecord{ID: fields.Void, Merchant: "m-17", Terminal: "t-1", Reference: "pay-1", Amount: 100, Currency: 156, State: store.VoidCreated, Version: 1}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := r
		r.Content = b
		got, err := decode(&r)
		if err != nil {
			if got.State != "" || len(got.Applied) != 0 {
				t.Errorf("a part is returned with %v", err)
			}
			return
		}
		if again, err := content(&got); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q becomes %q, %v", b, again, err)
		}
		if got.Fields != fields || got.State != flow.Created {
			t.Errorf("%+v", got)
		}
	})
}
