package pinsvc

import (
	"reflect"
	"testing"

	"keyd/hsm"
	"keyd/keyuse"
)

// TestKeptAnswers: what is kept comes back, and the bytes are those of earlier versions.
func TestKeptAnswers(t *testing.T) {
	kept(t, keptTranslation, hsm.TranslatedPIN{Custody: hsm.InModule, CheckValue: "C4F0A4", Block: []byte{1, 2}}, "\x02\x06C4F0A4\x01\x02")
	kept(t, keptGeneration, hsm.GeneratedPIN{Custody: hsm.InToken, Datum: "3856", Block: []byte{1, 2}}, "\x01\x043856\x01\x02")
	kept(t, keptVerification, hsm.VerifiedPIN{Custody: hsm.InModule, Verified: true}, "\x02\x01")
	kept(t, keptVerification, hsm.VerifiedPIN{Custody: hsm.InModule}, "\x02\x00")
	kept(t, keptChange, hsm.ChangedPIN{Custody: hsm.InModule, Verified: true, Datum: "3856"}, "\x02\x013856")
	kept(t, keptChange, hsm.ChangedPIN{Custody: hsm.InModule}, "\x02\x00")

	for _, b := range []string{"", "\x02", "\x02\x05C4F0"} {
		if a, ok := keptTranslation.Decode([]byte(b)); ok {
			t.Errorf("%q is %+v", b, a)
		}
		if a, ok := keptGeneration.Decode([]byte(b)); ok {
			t.Errorf("%q is %+v", b, a)
		}
	}
	for _, b := range []string{"", "\x02", "\x02\x02", "\x02\x01x"} {
		if a, ok := keptVerification.Decode([]byte(b)); ok {
			t.Errorf("%q is %+v", b, a)
		}
		if a, ok := keptChange.Decode([]byte(b)); ok && b != "\x02\x01x" {
			t.Errorf("%q is %+v", b, a)
		}
	}
}

func kept[A any](t *testing.T, form keyuse.Form[A], answer A, want string) {
	t.Helper()
	b := form.Encode(answer)
	if back, ok := form.Decode(b); string(b) != want || !ok || !reflect.DeepEqual(back, answer) {
		t.Errorf("%+v is kept as %q, want %q, and comes back as %+v, %v", answer, b, want, back, ok)
	}
}
