package keyblock

import "encoding/base64"

// CertificateFormat is the format of a certificate in the block CT (X9.143-2021 6.3.6.3,
// table 10).
type CertificateFormat byte

// The formats.
const (
	X509 CertificateFormat = 0
	EMV  CertificateFormat = 1
)

// Certificate is a certificate of a block CT. Nothing is verified, nor is it parsed.
type Certificate struct {
	Format CertificateFormat
	Data   []byte // decoded from base64: DER, for X.509
}

// Certificates returns the certificates in the block CT: two digits for the format and base64
// with padding; or format 02, a chain (table 11), in which each certificate is two digits for
// its format, four hex digits for the length of its base64, and that. There is at least one.
func (h *Header) Certificates() ([]Certificate, error) { return content(h, "CT", readCertificates) }

const chainFormat = "02"

func readCertificates(data string) ([]Certificate, bool) {
	if len(data) < 2 {
		return nil, false
	}
	if data[:2] != chainFormat {
		c, ok := readCertificate(data[:2], data[2:])
		return []Certificate{c}, ok
	}
	var chain []Certificate
	for rest := data[2:]; rest != "" || chain == nil; {
		if len(rest) < 6 {
			return nil, false
		}
		size, ok := number(rest[2:6], 16)
		if !ok || size > len(rest)-6 {
			return nil, false
		}
		c, ok := readCertificate(rest[:2], rest[6:6+size])
		if !ok {
			return nil, false
		}
		chain, rest = append(chain, c), rest[6+size:]
	}
	return chain, true
}

func readCertificate(format, text string) (Certificate, bool) {
	var c Certificate
	switch format {
	case "00":
		c.Format = X509
	case "01":
		c.Format = EMV
	default:
		return Certificate{}, false
	}
	var err error
	c.Data, err = base64.StdEncoding.Strict().DecodeString(text)
	return c, err == nil && len(c.Data) > 0
}
