package working

import (
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
