package code

import "time"

// MaxSkew is by how much clocks may differ at most.
const MaxSkew = 2 * time.Minute

// Verify checks a live code: that one of the keys signed it, that it is for this audience, that
// it has not expired, and that it ends no later than a live code can. Clocks may differ by skew,
// zero to [MaxSkew]. That it was not used before is for the caller to find out.
//
// Errors, in the order of checks: [ErrSkewOutOfRange], [ErrNoAuthority], [ErrUnknownKey],
// [ErrSignature], [ErrForeignCode], [ErrExpired], [ErrEndsTooLate].
func (p *Payload) Verify(keys Keys, audience Audience, now time.Time, skew time.Duration) (Code, error) {
	if skew < 0 || skew > MaxSkew {
		return Code{}, ErrSkewOutOfRange
	}
	c, err := p.Authentic(keys)
	if err != nil {
		return Code{}, err
	}
	return c.check(audience, now, skew, LongestLive)
}

// Authentic returns what a live code says, if one of the keys has signed it, whoever it is for and
// whether it has expired or not; [Code.CheckTime] is about the time. Errors are [ErrNoAuthority],
// [ErrUnknownKey] and [ErrSignature].
func (p *Payload) Authentic(keys Keys) (Code, error) {
	if p.Kind() != Live {
		return Code{}, ErrNoAuthority
	}
	candidates := keys.keys[p.keyID()]
	if len(candidates) == 0 {
		return Code{}, ErrUnknownKey
	}
	digest := digestOf(p.signed())
	for _, key := range candidates {
		if verifies(key, digest, p.signature()) {
			return p.code(), nil
		}
	}
	return Code{}, ErrSignature
}

// CheckTime checks that a live code has not expired, and that it ends no later than one can. Errors are
// [ErrExpired] and [ErrEndsTooLate].
func (c Code) CheckTime(now time.Time) error {
	_, err := c.check(c.Audience, now, 0, LongestLive)
	return err
}

// Reference reads a slip's code. Nobody signed it: the identifier is worth what is known
// here of the void that has it, and the audience and the end are hints to refuse early.
//
// Errors, in the order of checks: [ErrSkewOutOfRange], [ErrNoReference], [ErrForeignCode],
// [ErrExpired], [ErrEndsTooLate].
func (p *Payload) Reference(audience Audience, now time.Time, skew time.Duration) (Code, error) {
	if skew < 0 || skew > MaxSkew {
		return Code{}, ErrSkewOutOfRange
	}
	if p.Kind() != Slip {
		return Code{}, ErrNoReference
	}
	return p.code().check(audience, now, skew, LongestSlip)
}

// check holds a code against who reads it and when.
func (c Code) check(audience Audience, now time.Time, skew, longest time.Duration) (Code, error) {
	if c.Audience != audience {
		return Code{}, ErrForeignCode
	}
	if !now.Before(c.Expiry.Add(skew)) {
		return Code{}, ErrExpired
	}
	if c.Expiry.After(now.Add(longest + skew)) {
		return Code{}, ErrEndsTooLate
	}
	return c, nil
}
