package server

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"keyd/ceremony"
	"keyd/fault"
	"keyd/keys"
)

// Lists come in pages. A page token says where the next page begins.

// pageSize is what a list is asked for, 100 where nothing is said.
func pageSize(asked int32, most int) (int, error) {
	switch {
	case asked == 0:
		return min(100, most), nil
	case asked < 0 || asked > 1000:
		return 0, fault.New(fault.RequestInvalid, "page_size is from 1 to 1000")
	}
	return min(int(asked), most), nil
}

const badToken = "page_token is not one of an answer"

// checkNameToken refuses what is no token of a list in the order of names: it is the last
// name of the page before.
func checkNameToken(token string) error {
	if token != "" && !keys.ValidName(token) {
		return fault.New(fault.RequestInvalid, badToken)
	}
	return nil
}

// ceremonyToken is where the next page of ceremonies begins: opening time and identifier.
func ceremonyToken(at *keys.Place) string {
	return base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, "%d %s", at.OpenedAt.UnixMicro(), at.ID))
}

func parseCeremonyToken(token string) (before time.Time, id string, err error) {
	if token == "" {
		return before, "", nil
	}
	text, err := base64.RawURLEncoding.DecodeString(token)
	micros, id, found := strings.Cut(string(text), " ")
	at, number := strconv.ParseInt(micros, 10, 64)
	if err != nil || number != nil || !found || !ceremony.ValidID(id) {
		return before, "", fault.New(fault.RequestInvalid, badToken)
	}
	return time.UnixMicro(at).UTC(), id, nil
}
