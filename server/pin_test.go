package server

import (
	"testing"

	keydv1 "keyd/api/keyd/v1"
	"keyd/hsm"
)

// TestVerifyBinding: every field of the request gets to its place, so that each fault
// is told of the field that has it, and what is right reaches the modules.
func TestVerifyBinding(t *testing.T) {
	f := newFront(t).start()
	f.put("may.zone", "P0")
	f.put("may.pvk", "V2")
	client := keydv1.NewPinServiceClient(f.as("switch"))
	pvv := func(index int32, value string) *keydv1.PinMethod {
		return &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: &keydv1.VisaPvv{KeyIndex: index, Pvv: value}}}
	}
	offset := func(value string) *keydv1.PinMethod {
		return &keydv1.PinMethod{Method: &keydv1.PinMethod_Ibm3624{Ibm3624: &keydv1.Ibm3624{Offset: value}}}
	}
	for name, c := range map[string]struct {
		change func(*keydv1.VerifyPinDataRequest)
		want   string
	}{
		"PVV":              {func(*keydv1.VerifyPinDataRequest) {}, "MODULE_UNAVAILABLE"},
		"offset":           {func(r *keydv1.VerifyPinDataRequest) { r.Expected = offset("1234") }, "MODULE_UNAVAILABLE"},
		"no method":        {func(r *keydv1.VerifyPinDataRequest) { r.Expected = nil }, "REQUEST_INVALID"},
		"an empty method":  {func(r *keydv1.VerifyPinDataRequest) { r.Expected = &keydv1.PinMethod{} }, "REQUEST_INVALID"},
		"an empty PVV":     {func(r *keydv1.VerifyPinDataRequest) { r.Expected = pvv(1, "") }, "REQUEST_INVALID"},
		"PVKI":             {func(r *keydv1.VerifyPinDataRequest) { r.Expected = pvv(10, "3856") }, "REQUEST_INVALID"},
		"offset too short": {func(r *keydv1.VerifyPinDataRequest) { r.Expected = offset("123") }, "REQUEST_INVALID"},
		"PAN":              {func(r *keydv1.VerifyPinDataRequest) { r.PrimaryAccountNumber = "" }, "REQUEST_INVALID"},
		"block":            {func(r *keydv1.VerifyPinDataRequest) { r.EncryptedPinBlock = nil }, "REQUEST_INVALID"},
		"no key":           {func(r *keydv1.VerifyPinDataRequest) { r.Incoming = nil }, "REQUEST_INVALID"},
		"KSN": {func(r *keydv1.VerifyPinDataRequest) {
			r.Incoming.Dukpt = &keydv1.DukptAttributes{KeySerialNumber: make([]byte, 10)}
		}, "KSN_INVALID"},
		"working key":      {func(r *keydv1.VerifyPinDataRequest) { r.Incoming.Dukpt = &keydv1.DukptAttributes{KeyType: 6} }, "REQUEST_INVALID"},
		"verification key": {func(r *keydv1.VerifyPinDataRequest) { r.VerificationKeyId = "may.exist" }, "KEY_NOT_FOUND"},
		"another's key":    {func(r *keydv1.VerifyPinDataRequest) { r.VerificationKeyId = "not.pvk" }, "POLICY_DENIED"},
	} {
		r := &keydv1.VerifyPinDataRequest{
			Incoming:          &keydv1.PinKey{KeyId: "may.zone", Format: keydv1.PinBlockFormat_ISO_FORMAT_0},
			VerificationKeyId: "may.pvk", PrimaryAccountNumber: testPAN, EncryptedPinBlock: []byte(testBlock), Expected: pvv(1, "3856"),
		}
		c.change(r)
		if answer, err := client.VerifyPinData(t.Context(), r); reason(err) != c.want || answer != nil {
			t.Errorf("%s: %v, %v; want %s", name, answer, err, c.want)
		}
	}
	for _, r := range f.records() {
		if r.Method != "PinService/VerifyPinData" || len(r.Keys) != 2 || r.Keys[1].Name == "" {
			t.Errorf("recorded: %+v", r)
		}
	}
}

// The numbers of the contract and of the boundary agree.
func TestNumbersOfTheContract(t *testing.T) {
	for _, c := range []hsm.Custody{hsm.InToken, hsm.InModule, 0, 3} {
		if custody(c).String() != c.String() {
			t.Errorf("%d is %v", c, custody(c))
		}
	}
	for number, name := range map[hsm.WorkingType]string{
		hsm.WorkingDefault: "KEY_TYPE_UNSPECIFIED", hsm.WorkingTDES2: "TDES_2KEY", hsm.WorkingTDES3: "TDES_3KEY",
		hsm.WorkingAES128: "AES_128", hsm.WorkingAES192: "AES_192", hsm.WorkingAES256: "AES_256",
	} {
		if keydv1.DukptAttributes_KeyType_value[name] != int32(number) {
			t.Errorf("%s is %d in the contract", name, keydv1.DukptAttributes_KeyType_value[name])
		}
	}
	if len(keydv1.DukptAttributes_KeyType_name) != 6 || len(keydv1.PinBlockFormat_name) != 6 {
		t.Error("the contract has a number that the front does not know")
	}
	for f := hsm.Format0; f <= hsm.Format4; f++ {
		if name := keydv1.PinBlockFormat_name[int32(f)+1]; name != "ISO_FORMAT_"+f.String()[len("ISO-"):] {
			t.Errorf("format %v is %s in the contract", f, name)
		}
	}
}
