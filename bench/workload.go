package main

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"

	"keyd/dukpt"
	"keyd/dukpt/software"
	"keyd/pinblock"
)

// operation is what a load asks for.
type operation int

const (
	tdesToZone operation = iota
	aesToZone
	zoneToZone
	verifyPVV
	emptyCall  // of a server that does nothing: the yardstick
	tdesVerify // PVVs, under DUKPT: what PIN records are compared with
	aesVerify
	tdesRecord // PINs of PIN records
	aesRecord
)

func (o operation) String() string {
	return [...]string{"TDES DUKPT → zone", "AES DUKPT → zone", "zone → zone", "verify (PVV)", "empty gRPC call",
		"TDES DUKPT, verify (PVV)", "AES DUKPT, verify (PVV)", "TDES DUKPT, PIN record", "AES DUKPT, PIN record"}[o]
}

// scheme returns whether an operation is one under DUKPT, and whether that is AES DUKPT.
func (o operation) scheme() (dukpt, aes bool) {
	switch o {
	case tdesToZone, tdesVerify, tdesRecord:
		return true, false
	case aesToZone, aesVerify, aesRecord:
		return true, true
	}
	return false, false
}

// verifies reports whether an operation compares a PIN with a PVV, records whether with a PIN record.
func (o operation) verifies() bool { return o == verifyPVV || o == tdesVerify || o == aesVerify }
func (o operation) records() bool  { return o == tdesRecord || o == aesRecord }

// workload is an operation on keys of one service, and the terminals that ask for it.
// Terminals go on where they were from one measurement to the next.
//
// A terminal is the counter of its next transaction and nothing else: the keys of that
// transaction are derived as the host does it. That takes four bytes for each of
// 100,000 terminals; a test shows that the result is that of software.Terminal.
type workload struct {
	operation operation
	incoming  string   // name of the incoming key
	zones     []string // instead, for zone → zone: names of the keys to choose from
	first     uint32   // number of the first terminal: workloads on one BDK share none
	counters  []uint32 // by terminal; none where the incoming key is no BDK
	cards     *cards
	subjects  []subject // of PIN records: terminals take turns at them

	steps, made atomic.Int64 // AES: derivations from BDK to PIN key, in how many requests
}

// newWorkload returns a workload whose terminals, if it has any, start at random
// counters up to age. The same arguments give the same terminals.
func newWorkload(o operation, incoming string, terminals, age int, c *cards) (*workload, error) {
	w := &workload{operation: o, incoming: incoming, cards: c}
	if !w.dukpt() {
		return w, nil
	}
	w.counters = make([]uint32, terminals)
	random := rand.New(rand.NewPCG(1, uint64(o)))
	for i := range w.counters {
		initial, err := w.initialKSN(uint32(i))
		if err != nil {
			return nil, err
		}
		for w.counters[i] == 0 { // until the counter has no more one-bits than it may have
			if ksn, err := initial.WithCounter(1 + random.Uint32N(uint32(age))); err == nil {
				w.counters[i] = ksn.Counter()
			}
		}
	}
	return w, nil
}

// newZoneWorkload returns translations between random pairs of n zone keys.
func newZoneWorkload(n int, c *cards) *workload {
	w := &workload{operation: zoneToZone, cards: c, zones: make([]string, n)}
	for i := range w.zones {
		w.zones[i] = zoneName(i)
	}
	return w
}

func (w *workload) dukpt() bool {
	dukpt, _ := w.operation.scheme()
	return dukpt
}

func (w *workload) aes() bool {
	_, aes := w.operation.scheme()
	return aes
}

// subject is whose PIN a terminal carries.
func (w *workload) subject(terminal uint32) *subject {
	return &w.subjects[int(terminal)%len(w.subjects)]
}

// meanSteps is the mean number of derivations from the AES BDK to the PIN key of a
// request, without any key kept from one request for the next.
func (w *workload) meanSteps() float64 {
	if w.made.Load() == 0 {
		return 0
	}
	return float64(w.steps.Load()) / float64(w.made.Load())
}

// maxTerminals is what fits into the 19 bits of a TDES key serial number that are used
// for terminals here.
const maxTerminals = 1 << 19

// putKSN writes a key serial number to b and returns its length. The terminal is counted
// from the workload's first.
func (w *workload) putKSN(b *[dukpt.AESKSNSize]byte, terminal, counter uint32) int {
	terminal += w.first
	if w.aes() {
		*b = [dukpt.AESKSNSize]byte{0x12, 0x34, 0x56, 0x78, byte(terminal >> 24), byte(terminal >> 16), byte(terminal >> 8), byte(terminal),
			byte(counter >> 24), byte(counter >> 16), byte(counter >> 8), byte(counter)}
		return dukpt.AESKSNSize
	}
	low := uint64(terminal)<<dukpt.TDESCounterBits | uint64(counter)
	*b = [dukpt.AESKSNSize]byte{0xFF, 0xFF, 0x98, 0x76, 0x54, byte(low >> 32), byte(low >> 24), byte(low >> 16), byte(low >> 8), byte(low)}
	return dukpt.TDESKSNSize
}

func (w *workload) initialKSN(terminal uint32) (dukpt.KSN, error) {
	var b [dukpt.AESKSNSize]byte
	return dukpt.ParseInitialKSN(b[:w.putKSN(&b, terminal, 0)])
}

// request is what has to be kept of a request until it is sent.
type request struct {
	terminal uint32 // or which of the zones is the incoming key
	counter  uint32 // or which is the outgoing key
	card     uint32
	wrong    bool     // verify: the PVV is not the card's
	pvv      [4]byte  // verify
	block    [16]byte // 8 bytes but for AES
}

// maker makes requests of a workload. It has room to work in, for one goroutine.
type maker struct {
	*workload
	random   *rand.Rand
	zone     software.TDESKey
	pvk      software.TDESKey
	bdk      []byte
	pin      pinblock.PIN
	ik, key  [16]byte
	fill     [pinblock.RandomSize]byte
	requests int
}

func (w *workload) newMaker(seed uint64) (*maker, error) {
	m := &maker{workload: w, random: rand.New(rand.NewPCG(2, seed))}
	if w.dukpt() {
		m.bdk = keyValue(w.incoming)
	} else if err := m.zone.Set(keyValue(w.incoming)); err != nil {
		return nil, err
	}
	return m, m.pvk.Set(keyValue(pvk))
}

// make makes the next request of a terminal; without terminals the number is ignored.
func (m *maker) make(terminal uint32) (r request, err error) {
	if m.operation == emptyCall {
		return r, nil
	}
	r = request{terminal: terminal}
	var number string
	var digits []byte
	if m.operation.records() {
		s := m.subject(terminal)
		number, digits = s.number, s.pin
	} else {
		r.card = m.cards.draw()
		account, four := pan(r.card), pin(r.card)
		number, digits = string(account[:]), four[:]
	}
	m.requests++
	if m.operation.verifies() {
		r.pvv = pvv(&m.pvk, pan(r.card), pin(r.card))
		if r.wrong = m.requests%wrongEvery == 0; r.wrong {
			r.pvv = another(r.pvv)
		}
	}
	if m.zones != nil {
		r.terminal, r.counter = m.random.Uint32N(uint32(len(m.zones))), m.random.Uint32N(uint32(len(m.zones)))
		if err := m.zone.Set(keyValue(m.zones[r.terminal])); err != nil {
			return r, fmt.Errorf("make a request: %w", err)
		}
	}
	if err := m.seal(&r, number, digits); err != nil {
		return r, fmt.Errorf("make a request: %w", err)
	}
	return r, nil
}

// seal enciphers a PIN with its number: under the next key of the request's terminal or, where there
// are none, under the zone key.
func (m *maker) seal(r *request, number string, digits []byte) error {
	parsed, err := pinblock.ParsePAN(number)
	if err != nil {
		return err
	}
	if err := m.pin.SetDigits(digits); err != nil {
		return err
	}
	switch {
	case m.aes():
		return m.sealAES(r, parsed)
	case m.dukpt():
		return m.sealTDES(r, parsed)
	}
	return m.seal0(r, parsed)
}

// wrongEvery is one in how many verifications has a wrong PVV.
const wrongEvery = 64

// transaction returns the key serial number of a terminal's next transaction, and moves
// the terminal on.
func (m *maker) transaction(r *request) (dukpt.KSN, error) {
	r.counter = m.counters[r.terminal]
	var b [dukpt.AESKSNSize]byte
	ksn, err := dukpt.ParseKSN(b[:m.putKSN(&b, r.terminal, r.counter)])
	if err != nil {
		return ksn, err
	}
	next, err := ksn.Next()
	if err != nil {
		return ksn, fmt.Errorf("terminal %d: %w", r.terminal, err)
	}
	m.counters[r.terminal] = next.Counter()
	return ksn, nil
}

// giveBack makes the terminal of a request that was not sent forget it. Requests are
// given back from the last one made.
func (w *workload) giveBack(r request) {
	if w.dukpt() {
		w.counters[r.terminal] = r.counter
	}
}

func (m *maker) sealTDES(r *request, account pinblock.PAN) error {
	ksn, err := m.transaction(r)
	if err != nil {
		return err
	}
	if err := software.TDESInitialKey(m.ik[:], m.bdk, ksn); err != nil {
		return err
	}
	if err := software.TDESTransactionKey(m.key[:], m.ik[:], ksn); err != nil {
		return err
	}
	if err := software.TDESWorkingKey(m.key[:], m.key[:], dukpt.VariantPIN); err != nil {
		return err
	}
	if err := m.zone.Set(m.key[:]); err != nil {
		return err
	}
	return m.seal0(r, account)
}

func (m *maker) seal0(r *request, account pinblock.PAN) error {
	if err := pinblock.EncodeISO0(r.block[:8], &m.pin, account); err != nil {
		return err
	}
	m.zone.Encrypt(r.block[:8], r.block[:8])
	return nil
}
