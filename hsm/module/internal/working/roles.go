package working

import (
	"strings"

	"keyd/fault"
	"keyd/hsm"
)

// CheckWay decides whether a key may serve for what is sent from here, or for what is
// received ([fault.KeyUsageMismatch]). A static key has a direction. The keys of a BDK's
// transactions have one each: a terminal sends requests and receives responses, so that an
// incoming BDK receives requests and sends responses, and an outgoing one is for a host that
// stands in for terminals.
func CheckWay(h *hsm.Header, sends, response bool) error {
	incoming := !sends
	if h.Usage == "B0" {
		incoming = sends == response
	}
	switch {
	case incoming && !h.Incoming(), !incoming && !h.Outgoing():
		if h.Usage == "B0" {
			return fault.New(fault.KeyUsageMismatch, "the BDK may not do this: its direction is "+h.Direction+", by which requests come from terminals and responses go to them, or the other way round")
		}
		return fault.New(fault.KeyUsageMismatch, "the key may not do this: its direction is "+h.Direction)
	}
	return nil
}

// CheckMode refuses a key whose mode of use (ANSI X9.143) is none of modes; refusal says
// what it may not do ([fault.KeyUsageMismatch]).
func CheckMode(h *hsm.Header, modes, refusal string) error {
	if len(h.Mode) != 1 || !strings.Contains(modes, h.Mode) {
		return fault.New(fault.KeyUsageMismatch, refusal+": mode of use "+h.Mode+", which has to be one of "+modes)
	}
	return nil
}

// CheckDemands refuses what the front will not accept ([fault.KSNReplayed]), and what the
// policy wants in the token and is not there; why says that ([fault.CustodyUnavailable]).
func CheckDemands(d hsm.Demands, c hsm.Custody, why string) error {
	switch {
	case d.KSNRefused:
		return fault.New(fault.KSNReplayed, "")
	case d.TokenCustody && c != hsm.InToken:
		return fault.New(fault.CustodyUnavailable, why)
	}
	return nil
}
