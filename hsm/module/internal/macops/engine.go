package macops

import (
	"bytes"
	"crypto/subtle"
	"fmt"
	"unsafe"

	"keyd/dukpt"
	"keyd/fault"
	"keyd/hsm"
	"keyd/hsm/module/internal/sealing"
	"keyd/hsm/module/internal/token"
	"keyd/hsm/module/internal/working"
	"keyd/pinrecord"
)

// Engine makes MACs with a token. It is safe for concurrent use.
type Engine struct{ keys *working.Keys }

// NewEngine returns an engine that uses keys.
func NewEngine(keys *working.Keys) *Engine { return &Engine{keys} }

// Generate makes the MAC of a message. Errors are refusals of package fault, or the token's. That of
// a void ([pinrecord.MACPrefix]) is its terminal's alone.
func (e *Engine) Generate(r hsm.GenerateMAC) (answer hsm.GeneratedMAC, err error) {
	if bytes.HasPrefix(r.Message, []byte(pinrecord.MACPrefix)) {
		return answer, fault.New(fault.KeyUsageMismatch, "the message begins like a void's, whose MAC is made by its terminal alone")
	}
	err = e.keys.Do(func(s *token.Session) error {
		m, err := e.begin(s, &r.Key, true, r.Demands)
		if err != nil {
			return err
		}
		defer m.key.Release()
		length := m.size
		if r.Length != 0 {
			length = int(r.Length)
		}
		if err := m.checkLength(length); err != nil {
			return err
		}
		if err := m.compute(r.Message); err != nil {
			return err
		}
		answer = hsm.GeneratedMAC{MAC: append([]byte(nil), m.mac[:length]...), CheckValue: m.key.Header.CheckValue, Custody: m.custody()}
		return nil
	})
	if err != nil {
		return hsm.GeneratedMAC{}, err
	}
	return answer, nil
}

// Verify says whether a MAC is the message's. Errors are refusals of package fault, or the
// token's.
func (e *Engine) Verify(r hsm.VerifyMAC) (answer hsm.VerifiedMAC, err error) {
	err = e.keys.Do(func(s *token.Session) (err error) {
		answer, err = e.VerifyOn(s, &r)
		return err
	})
	return answer, err
}

// VerifyOn is [Engine.Verify] on a session that the caller has, whose memory it uses.
func (e *Engine) VerifyOn(s *token.Session, r *hsm.VerifyMAC) (answer hsm.VerifiedMAC, err error) {
	m, err := e.begin(s, &r.Key, false, r.Demands)
	if err != nil {
		return answer, err
	}
	defer m.key.Release()
	if err := m.checkLength(len(r.MAC)); err != nil {
		return answer, err
	}
	if err := m.compute(r.Message); err != nil {
		return answer, err
	}
	return hsm.VerifiedMAC{Verified: subtle.ConstantTimeCompare(m.mac[:len(r.MAC)], r.MAC) == 1, Custody: m.custody()}, nil
}

// operation is one MAC on its way.
type operation struct {
	*Engine
	session *token.Session
	request *hsm.MACKey
	key     sealing.Key
	isBDK   bool
	aes     bool // the key, or working key, is one of AES
	size    int  // of the whole MAC
	mac     [32]byte
}

// memory is what is secret during an operation. It lies in the session's locked memory.
type memory struct {
	tdes working.TDESMemory
}

// It must fit.
const _ = uint(token.ScratchSize - unsafe.Sizeof(memory{}))

func (m *operation) memory() *memory { return (*memory)(unsafe.Pointer(&m.session.Scratch()[0])) }

// begin opens the key and checks everything that can be checked without the message. The
// caller releases the key.
func (e *Engine) begin(s *token.Session, r *hsm.MACKey, generates bool, demands hsm.Demands) (*operation, error) {
	m := &operation{Engine: e, session: s, request: r}
	var err error
	if m.key, err = e.keys.Open(s, r.Key); err != nil {
		return nil, err
	}
	if err := m.check(generates, demands); err != nil {
		m.key.Release()
		return nil, err
	}
	return m, nil
}

// check applies the rules, in their order.
func (m *operation) check(generates bool, demands hsm.Demands) error {
	h, r := m.key.Header, m.request
	if err := working.CheckKSN(h, r.KSN); err != nil {
		return err
	}
	var err error
	if m.isBDK, err = working.CheckBDK(h, r.KSN); err != nil {
		return err
	}
	if m.isBDK {
		err = m.checkDerived()
	} else {
		err = checkStatic(h, r.Algorithm, generates)
		m.aes = h.Algorithm == "A"
	}
	if err != nil {
		return err
	}
	if err := working.CheckWay(h, generates, r.Response); err != nil {
		return err
	}
	m.size = r.Algorithm.MACSize(m.aes)
	return working.CheckDemands(demands, m.custody(), whyInModule)
}

// usages are the key usages of X9.143 that serve an algorithm.
var usages = map[hsm.MACAlgorithm]string{
	hsm.MACAlgorithm1: "M1", hsm.MACAlgorithm3: "M3", hsm.CMAC: "M6", hsm.HMACSHA256: "M7",
}

// checkStatic decides whether a key may make, or verify, MACs of an algorithm.
func checkStatic(h *hsm.Header, a hsm.MACAlgorithm, generates bool) error {
	want := usages[a]
	if h.Usage != want {
		return fault.New(fault.KeyUsageMismatch, "a "+h.Usage+" key does not make these MACs: the algorithm takes a "+want+" key, or a BDK")
	}
	modes := "VCN"
	if generates {
		modes = "GCN"
	}
	return working.CheckMode(h, modes, "the key may not do this")
}

// checkDerived decides whether a BDK has a working key for the algorithm.
func (m *operation) checkDerived() error {
	h, r := m.key.Header, m.request
	algorithm, err := working.Algorithm(h, r.WorkingType)
	if err != nil {
		return err
	}
	m.aes = algorithm == "A"
	fits := false
	switch r.Algorithm {
	case hsm.CMAC:
		fits = true
	case hsm.MACAlgorithm1:
		fits = !m.aes
	case hsm.MACAlgorithm3:
		// The token does not take the halves of a key apart that it has derived itself.
		fits = h.Algorithm == "T"
	case hsm.HMACSHA256:
		fits = m.aes
	}
	if !fits {
		return fault.New(fault.KeyUsageMismatch, "the BDK has no working key for this algorithm: TDES BDKs have those for ISO 9797-1 and CMAC; AES BDKs for CMAC, for HMAC with an AES key type, and for ISO 9797-1 algorithm 1 with a TDES key type")
	}
	return nil
}

// checkLength refuses a length that no MAC of the algorithm has.
func (m *operation) checkLength(n int) error {
	if least := m.request.Algorithm.Least(m.size, m.key.Header); n < least || n > m.size {
		return fault.New(fault.RequestInvalid, fmt.Sprintf("a MAC of this algorithm and key has %d to %d bytes", least, m.size))
	}
	return nil
}

// usage is that of the working key (X9.24-3:2017 table 2; X9.24-1:2009 A.4.1). The names of
// the standard are the terminal's: it generates the MAC of a request.
func (m *operation) usage() dukpt.Usage {
	if m.request.Response {
		return dukpt.UsageMACVerification
	}
	return dukpt.UsageMACGeneration
}
