package fees

import (
	"errors"
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// ErrRate is returned for a text that is no rate.
var ErrRate = errors.New("a rate is a percentage from 0% to 100% with at most four decimals, such as 0.60% (in quotes in JSON)")

const whole = 1_000_000 // millionths

// Rate is a part of an amount. The zero value is no rate, not even 0%: a rate is written down.
type Rate struct {
	millionths uint32
	set        bool
}

// ParseRate reads a rate as people write it: "0.60%". The error is [ErrRate].
func ParseRate(text string) (Rate, error) {
	number, found := strings.CutSuffix(text, "%")
	units, decimals, point := strings.Cut(number, ".")
	if !found || !digits(units, 3) || point && !digits(decimals, 4) || len(units) > 1 && units[0] == '0' {
		return Rate{}, ErrRate
	}
	n, err := strconv.ParseUint(units+decimals+strings.Repeat("0", 4-len(decimals)), 10, 32)
	if err != nil || n > whole {
		return Rate{}, ErrRate
	}
	return Rate{uint32(n), true}, nil
}

func digits(s string, most int) bool {
	return s != "" && len(s) <= most && strings.Trim(s, "0123456789") == ""
}

// String writes a rate with two decimals, or as many more as it has: "0.60%".
func (r Rate) String() string {
	if !r.set {
		return "no rate"
	}
	decimals := fmt.Sprintf("%04d", r.millionths%10_000)
	return fmt.Sprintf("%d.%s%%", r.millionths/10_000, decimals[:2]+strings.TrimRight(decimals[2:], "0"))
}

// UnmarshalText is [ParseRate], for JSON and YAML.
func (r *Rate) UnmarshalText(text []byte) (err error) {
	*r, err = ParseRate(string(text))
	return err
}

// MarshalText is [Rate.String] of a rate. The error is [ErrRate].
func (r Rate) MarshalText() ([]byte, error) {
	if !r.set {
		return nil, ErrRate
	}
	return []byte(r.String()), nil
}

// of returns the part of an amount, rounded half up. The amount is not negative.
func (r Rate) of(amount int64) int64 {
	high, low := bits.Mul64(uint64(amount), uint64(r.millionths))
	low, carry := bits.Add64(low, whole/2, 0)
	part, _ := bits.Div64(high+carry, low, whole) // high < whole, since the rate is at most 1
	return int64(part)
}
