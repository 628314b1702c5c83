package token

/*
#include "direct.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"github.com/miekg/pkcs11"
)

// MaxData is the size of the largest data object, in bytes.
const MaxData = 64 << 10

// dataApplication is CKA_APPLICATION of keyd's data objects.
const dataApplication = "keyd"

// Data is a data object and what it holds.
type Data struct {
	Object Object
	Value  []byte
}

// PutData puts a data object on the token: private, not modifiable, application "keyd",
// with a value of 0 to [MaxData] bytes. Labels need not be unique; which of several objects
// counts is the caller's matter. The object is on the token's disk when the call returns,
// as far as the token makes that sure. value is no clear key: data objects can be read.
//
// On a token that keeps no data objects it is a key that does nothing ([holder]).
func (s *Session) PutData(label string, value []byte) (Object, error) {
	if err := checkLabel(label); err != nil {
		return 0, err
	}
	if len(value) > MaxData {
		return 0, fmt.Errorf("a data object holds up to %d bytes, not %d", MaxData, len(value))
	}
	start := unsafe.Pointer(unsafe.SliceData(value))
	if len(value) == 0 {
		start = unsafe.Pointer(&nothing)
	}
	s.token.tokenObjects.Lock()
	defer s.token.tokenObjects.Unlock()
	if s.token.keepsNoData.Load() {
		return s.putHolder(dataHolder, label, value)
	}
	var object C.keyd_ulong
	err := call("C_CreateObject", uint(C.keyd_put_data(s.token.lib.direct, C.keyd_ulong(s.handle),
		unsafe.Pointer(unsafe.StringData(label)), C.keyd_ulong(len(label)),
		unsafe.Pointer(unsafe.StringData(dataApplication)), C.keyd_ulong(len(dataApplication)),
		start, C.keyd_ulong(len(value)), &object)))
	if hasCode(err, pkcs11.CKR_ATTRIBUTE_VALUE_INVALID) { // NSS says so of the class
		s.token.keepsNoData.Store(true)
		return s.putHolder(dataHolder, label, value)
	}
	return Object(object), err
}

// FindData returns all data objects that have exactly this label, in no order that means
// anything; none is no error. It sees private objects of application "keyd" only: public
// ones can be put on a token without its PIN. One that another session destroys meanwhile
// is left out.
func (s *Session) FindData(label string) ([]Data, error) {
	if err := checkLabel(label); err != nil {
		return nil, err
	}
	s.token.tokenObjects.Lock()
	defer s.token.tokenObjects.Unlock()
	objects, err := s.findAll(
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_APPLICATION, dataApplication),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, label))
	if err != nil {
		return nil, err
	}
	list, err := read(nil, objects, s.data)
	if err != nil {
		return nil, err
	}
	if objects, err = s.findAll(dataHolder.template(label)...); err != nil {
		return nil, err
	}
	return read(list, objects, s.held)
}

// read adds what the objects hold to a list.
func read(list []Data, objects []Object, value func(Object) ([]byte, error)) ([]Data, error) {
	for _, object := range objects {
		value, err := value(object)
		if ClassOf(err) == HandleStale {
			continue
		}
		if err != nil {
			return nil, err
		}
		list = append(list, Data{Object: object, Value: value})
	}
	return list, nil
}

func (s *Session) data(object Object) ([]byte, error) {
	size, err := s.valueSize(object)
	if err != nil {
		return nil, err
	}
	if size > MaxData {
		return nil, fmt.Errorf("a data object has %d bytes, more than keyd puts into one", size)
	}
	if size == 0 {
		return []byte{}, nil
	}
	value := make([]byte, size)
	n, err := s.value(object, value)
	return value[:n], err
}

// DestroyData removes a data object. Handles of anything else are refused.
func (s *Session) DestroyData(object Object) error {
	s.token.tokenObjects.Lock()
	defer s.token.tokenObjects.Unlock()
	if holds, err := s.isHolder(dataHolder, object); err != nil {
		return err
	} else if holds {
		return s.Destroy(object)
	}
	for _, want := range []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_DATA),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_APPLICATION, dataApplication),
	} {
		got, err := s.attribute(object, want.Type)
		if err != nil && hasCode(err, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID) || err == nil && string(got) != string(want.Value) {
			return errors.New("the object is no data object of keyd's")
		}
		if err != nil {
			return err
		}
	}
	return s.Destroy(object)
}
