package simulator

import (
	"crypto/sha256"
	"encoding/hex"

	"google.golang.org/protobuf/proto"

	keydv1 "keyd/api/keyd/v1"
	"keyd/voidtoken"
)

// maxAuthorization is the size of the largest request that a terminal keeps, in bytes.
const maxAuthorization = 8 << 10

// voidUnderWay is a void that the terminal has begun, as far as it has got. What is sent is here
// before, so that a terminal that was stopped sends the same again, and not something else.
type voidUnderWay struct {
	Request string `json:"request"`           // identifier of the requests that create it and burn its code
	Payment string `json:"payment,omitempty"` // reference, where the payment was found on the terminal
	Code    []byte `json:"code,omitempty"`    // SHA-256 of the code, once it was scanned
	Void    string `json:"void,omitempty"`    // once the code was burnt, or shown to a phone
	Phone   bool   `json:"phone,omitempty"`   // it is approved on a phone

	// Authorize is the request with the enciphered PINs, once its sender has confirmed it.
	Authorize []byte `json:"authorize,omitempty"` // keyd.v1.AuthorizeVoidRequest
}

func (v *voidUnderWay) valid() bool {
	if v == nil {
		return true
	}
	id, err := hex.DecodeString(v.Void)
	if !voidtoken.ValidName(v.Request) || v.Payment != "" && !voidtoken.ValidName(v.Payment) || len(v.Code) != 0 && len(v.Code) != sha256.Size || err != nil || len(id) != 0 && len(id) != voidtoken.VoidSize || len(v.Authorize) > maxAuthorization {
		return false
	}
	_, err = v.request()
	return err == nil && (v.Authorize == nil || v.Void != "")
}

// request returns the authorisation that was confirmed, nil for none.
func (v *voidUnderWay) request() (*keydv1.AuthorizeVoidRequest, error) {
	if v.Authorize == nil {
		return nil, nil
	}
	r := new(keydv1.AuthorizeVoidRequest)
	if err := proto.Unmarshal(v.Authorize, r); err != nil {
		return nil, ErrDeviceState
	}
	return r, nil
}

// voidUnderWay returns the void that is not over, the zero value where there is none.
func (d *Device) voidUnderWay() (v voidUnderWay, err error) {
	err = d.view(func(s *deviceState) error {
		if s.Void != nil {
			v = *s.Void
		}
		return nil
	})
	return v, err
}

// keepVoid has a void in the file when it returns nil; nil of v forgets it.
func (d *Device) keepVoid(v *voidUnderWay) error {
	return d.update(func(s *deviceState) error {
		s.Void = v
		return nil
	})
}
