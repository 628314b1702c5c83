package main

import (
	"errors"
	"fmt"

	keydv1 "keyd/api/keyd/v1"
	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/pinblock"
)

// message is the request of one caller in the form that is sent, and the answer to it.
// It is filled again for each request: gRPC has encoded a message when sending returns.
type message struct {
	w         *workload
	ksn       [dukpt.AESKSNSize]byte
	in, out   *keydv1.PinKey
	translate *keydv1.TranslatePinDataRequest
	verify    *keydv1.VerifyPinDataRequest
	pvv       *keydv1.VisaPvv
	record    *keydv1.VerifyPinRequest
	item      *keydv1.TranslatePinDataStreamRequest
	status    *keydv1.GetStatusRequest // the empty message

	translated *keydv1.TranslatePinDataResponse
	verified   *keydv1.VerifyPinDataResponse
	tried      *keydv1.VerifyPinResponse
	nothing    *keydv1.GetStatusResponse

	zone    software.TDESKey // of the answers that are looked at
	pin     pinblock.PIN
	clear   [8]byte
	answers int
}

func newMessage(w *workload, correlation uint64) *message {
	m := &message{
		w:          w,
		in:         &keydv1.PinKey{KeyId: w.incoming, Format: keydv1.PinBlockFormat_ISO_FORMAT_0},
		out:        &keydv1.PinKey{KeyId: zoneOut, Format: keydv1.PinBlockFormat_ISO_FORMAT_0},
		pvv:        &keydv1.VisaPvv{KeyIndex: 1},
		status:     &keydv1.GetStatusRequest{},
		translated: &keydv1.TranslatePinDataResponse{},
		verified:   &keydv1.VerifyPinDataResponse{},
		tried:      &keydv1.VerifyPinResponse{},
		nothing:    &keydv1.GetStatusResponse{},
	}
	if w.dukpt() {
		m.in.Dukpt = &keydv1.DukptAttributes{}
	}
	if w.aes() {
		m.in.Format = keydv1.PinBlockFormat_ISO_FORMAT_4
	}
	m.translate = &keydv1.TranslatePinDataRequest{Incoming: m.in, Outgoing: m.out}
	m.verify = &keydv1.VerifyPinDataRequest{Incoming: m.in, VerificationKeyId: pvk,
		Expected: &keydv1.PinMethod{Method: &keydv1.PinMethod_VisaPvv{VisaPvv: m.pvv}}}
	m.record = &keydv1.VerifyPinRequest{Pin: &keydv1.PinEntry{Incoming: m.in}}
	m.item = &keydv1.TranslatePinDataStreamRequest{CorrelationId: correlation}
	if w.operation != emptyCall {
		m.item.Request = m.translate
	}
	return m
}

// fill makes the message that of a request. The request stays where it is until it has
// been sent.
func (m *message) fill(r *request) {
	if m.w.operation == emptyCall {
		return
	}
	if m.w.dukpt() {
		m.in.Dukpt.KeySerialNumber = m.ksn[:m.w.putKSN(&m.ksn, r.terminal, r.counter)]
	} else if m.w.zones != nil {
		m.in.KeyId, m.out.KeyId = m.w.zones[r.terminal], m.w.zones[r.counter]
	}
	block := r.block[:8]
	if m.w.aes() {
		block = r.block[:]
	}
	if m.w.operation.records() {
		m.record.Subject, m.record.Pin.EncryptedPinBlock = m.w.subject(r.terminal).message, block
		return
	}
	account := pan(r.card)
	if m.w.operation.verifies() {
		m.verify.PrimaryAccountNumber, m.verify.EncryptedPinBlock = string(account[:]), block
		m.pvv.Pvv = string(r.pvv[:])
		return
	}
	m.translate.PrimaryAccountNumber, m.translate.EncryptedPinBlock = string(account[:]), block
}

// lookEvery is one in how many translated blocks is deciphered.
const lookEvery = 64

// check says whether the answer to a request is the right one. Verifications are all
// checked; of translations the first and every [lookEvery]th are deciphered under the
// outgoing key and compared with the PIN that went in.
func (m *message) check(r *request, translated *keydv1.TranslatePinDataResponse) error {
	switch {
	case m.w.operation == emptyCall:
		return nil
	case m.w.operation.records():
		if !m.tried.Verified {
			return errors.New("wrong answer: the PIN of a PIN record was right, and is not verified")
		}
		return nil
	case m.w.operation.verifies():
		if m.verified.Verified == r.wrong {
			return errors.New("wrong answer: a verification came out as it must not")
		}
		return nil
	}
	block := translated.GetEncryptedPinBlock()
	if len(block) != 8 {
		return fmt.Errorf("wrong answer: a block of %d bytes", len(block))
	}
	if m.answers++; m.answers%lookEvery != 1 {
		return nil
	}
	if err := m.zone.Set(keyValue(m.out.KeyId)); err != nil {
		return err
	}
	account := pan(r.card)
	parsed, err := pinblock.ParsePAN(string(account[:]))
	if err != nil {
		return err
	}
	m.zone.Decrypt(m.clear[:], block)
	if err := pinblock.DecodeISO0(&m.pin, m.clear[:], parsed); err != nil {
		return fmt.Errorf("wrong answer: %w", err)
	}
	for i, digit := range pin(r.card) {
		if m.pin.Len() != 4 || m.pin.Digit(i) != digit-'0' {
			return errors.New("wrong answer: another PIN than the one that went in")
		}
	}
	return nil
}
