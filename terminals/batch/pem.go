package batch

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
)

// MaxPEM is the size of the largest PEM text of certificates that is read, in bytes.
const MaxPEM = 64 << 10

// Certificates returns the certificates of a PEM text in DER, in their order. A text that has
// anything else in it than certificates, such as a private key, is refused, as is one without
// any. Whether they are certificates that a terminal can have is not looked at.
func Certificates(text []byte) ([][]byte, error) {
	if len(text) > MaxPEM {
		return nil, fmt.Errorf("the certificates have more than %d bytes", MaxPEM)
	}
	var ders [][]byte
	for rest := text; ; {
		var block *pem.Block
		before := rest
		block, rest = pem.Decode(rest)
		if block == nil {
			if len(bytes.TrimSpace(before)) > 0 {
				return nil, errors.New("there is something other than PEM in it")
			}
			break
		}
		// Decode passes over what it cannot read: nothing may be left out here.
		read, begin := bytes.TrimSpace(before[:len(before)-len(rest)]), []byte("-----BEGIN ")
		if !bytes.HasPrefix(read, begin) || bytes.Count(read, begin) != 1 {
			return nil, errors.New("there is something other than PEM in it")
		}
		if block.Type != "CERTIFICATE" {
			return nil, errors.New("there is something other than certificates in it: a private key has no place there")
		}
		ders = append(ders, block.Bytes)
	}
	if len(ders) == 0 {
		return nil, errors.New("there is no certificate in it: it has to be PEM")
	}
	return ders, nil
}
