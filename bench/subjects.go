package main

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"

	keydv1 "keyd/api/keyd/v1"
	"keyd/development/injecting"
	"keyd/dukpt"
	"keyd/officer"
	"keyd/pinrecord"
)

// subject is a supervisor of a shop of its own, whose PIN keyd keeps.
type subject struct {
	pinrecord.Subject
	number  string // in place of a PAN
	pin     []byte // 12 ASCII digits: among so many, hardly any are well known
	message *keydv1.PinSubject
}

// newSubject makes one. The same number gives the same.
func newSubject(i int) subject {
	s := subject{Subject: pinrecord.Subject{Kind: pinrecord.Supervisor, Merchant: fmt.Sprintf("shop-%05d", i), Name: "dora"}}
	s.number = s.Number()
	digest := sha256.Sum256(fmt.Appendf(nil, "keyd bench PIN %d", i))
	for _, b := range digest[:pinrecord.MaxPIN] {
		s.pin = append(s.pin, '0'+b%10)
	}
	s.message = &keydv1.PinSubject{Kind: keydv1.PinSubject_SUPERVISOR, Merchant: s.Merchant, Name: s.Name}
	return s
}

// approvers have subjects get their PINs.
type approvers struct {
	keys    []crypto.Signer
	certs   [][]byte
	deliver *ecdh.PrivateKey // that codes are sealed to
	public  []byte
}

// readApprovers reads the approvers that keyd pin prepare has made.
func readApprovers(dev string) (*approvers, error) {
	a := new(approvers)
	for _, name := range injecting.Approvers {
		path := filepath.Join(dev, injecting.ApproversDir, name)
		key, err := officer.OpenKey(path+".key", nil)
		if err != nil {
			return nil, err
		}
		text, err := os.ReadFile(path + ".crt")
		if err != nil {
			return nil, err
		}
		block, _ := pem.Decode(text)
		if block == nil {
			return nil, fmt.Errorf("%s.crt holds no certificate", path)
		}
		a.keys, a.certs = append(a.keys, key), append(a.certs, block.Bytes)
	}
	var err error
	if a.deliver, err = ecdh.P256().GenerateKey(rand.Reader); err != nil {
		return nil, err
	}
	a.public, err = x509.MarshalPKIXPublicKey(a.deliver.PublicKey())
	return a, err
}

// approve signs that a subject gets a first PIN. The document is what a code is opened with.
func (a *approvers) approve(s *subject) (document []byte, signed []*keydv1.PinApproval, err error) {
	var request [pinrecord.RequestSize]byte
	if _, err := rand.Read(request[:]); err != nil {
		return nil, nil, err
	}
	approval := pinrecord.Approval{
		Action: pinrecord.Enrol, Subject: s.Subject, Version: 1, Request: hex.EncodeToString(request[:]), DeliverTo: a.public, NotAfter: time.Now().Add(time.Hour).Unix(),
	}
	if document, err = approval.Encode(); err != nil {
		return nil, nil, err
	}
	for i, key := range a.keys {
		one, err := pinrecord.Sign(key, [][]byte{a.certs[i]}, document)
		if err != nil {
			return nil, nil, err
		}
		signed = append(signed, &keydv1.PinApproval{Document: one.Document, Signature: one.Signature, Certificates: one.Certificates})
	}
	return document, signed, nil
}

// enrolSubject has a subject get its PIN, typed at a terminal of the workload.
func (a *approvers) enrolSubject(ctx context.Context, hands, terminals grpc.ClientConnInterface, w *workload, i int) error {
	s := w.subject(uint32(i))
	document, signed, err := a.approve(s)
	if err != nil {
		return err
	}
	begun, err := keydv1.NewPinRecordServiceClient(hands).BeginPin(ctx, &keydv1.BeginPinRequest{Approvals: signed})
	if err != nil {
		return err
	}
	code, err := pinrecord.OpenCode(a.deliver, document, begun.SealedCode)
	if err != nil {
		return err
	}
	m, err := w.newMaker(uint64(i))
	if err != nil {
		return err
	}
	request := &keydv1.SetPinRequest{Subject: s.message}
	for _, typed := range []struct {
		digits []byte
		entry  **keydv1.PinEntry
	}{{code, &request.Code}, {s.pin, &request.Pin}} {
		r := request0(i)
		if err := m.seal(&r, s.number, typed.digits); err != nil {
			return err
		}
		*typed.entry = &keydv1.PinEntry{Incoming: w.pinKey(&r), EncryptedPinBlock: r.sealed(w)}
	}
	answer, err := keydv1.NewPinRecordServiceClient(terminals).SetPin(ctx, request)
	if err != nil {
		return err
	}
	if !answer.GetVerified() {
		return errors.New("the code of a subject was not taken")
	}
	return nil
}

// request0 is a request of a terminal that has nothing in it.
func request0(terminal int) request { return request{terminal: uint32(terminal)} }

// sealed is the enciphered block of a request.
func (r *request) sealed(w *workload) []byte {
	if w.aes() {
		return r.block[:16]
	}
	return r.block[:8]
}

// pinKey names the key of a request's block.
func (w *workload) pinKey(r *request) *keydv1.PinKey {
	return &keydv1.PinKey{KeyId: w.incoming, Format: w.format(), Dukpt: w.serial(r)}
}

func (w *workload) format() keydv1.PinBlockFormat {
	if w.aes() {
		return keydv1.PinBlockFormat_ISO_FORMAT_4
	}
	return keydv1.PinBlockFormat_ISO_FORMAT_0
}

// serial is the key serial number of a request.
func (w *workload) serial(r *request) *keydv1.DukptAttributes {
	var b [dukpt.AESKSNSize]byte
	return &keydv1.DukptAttributes{KeySerialNumber: b[:w.putKSN(&b, r.terminal, r.counter)]}
}
