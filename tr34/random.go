package tr34

import "golang.org/x/crypto/cryptobyte"

// Sizes of a device's random number in bytes. The samples in TR 34-2019 annex B have 8 and 16.
const (
	MinRandom = 8
	MaxRandom = 16
)

// RandomToken encodes RT_KRD (TR 34-2019 B.12), the attribute with a device's random number of
// 8 to 16 bytes. The error is [ErrRandomSize].
func RandomToken(random []byte) ([]byte, error) {
	if len(random) < MinRandom || len(random) > MaxRandom {
		return nil, ErrRandomSize
	}
	return octetsAttribute(idRandomNonce, random)
}

// ReadRandomToken returns the random number of RT_KRD, 8 to 16 bytes. Nobody signed it.
func ReadRandomToken(token []byte) ([]byte, error) {
	if len(token) > MaxToken {
		return nil, ErrTooLarge
	}
	if err := wellFormed(token, 0); err != nil {
		return nil, err
	}
	in := cryptobyte.String(token)
	kind, value, err := readAttribute(&in)
	if err != nil || !in.Empty() || !kind.Equal(idRandomNonce) {
		return nil, ErrStructure
	}
	s := signer{values: map[string]cryptobyte.String{kind.String(): value}}
	random, err := s.octets(kind)
	if err != nil {
		return nil, ErrStructure
	}
	if len(random) < MinRandom || len(random) > MaxRandom {
		return nil, ErrRandomSize
	}
	return append([]byte(nil), random...), nil
}
