package vault

import (
	"encoding/json"
	"errors"
	"time"

	"keyd/supervisor/pinfile"
)

// session is what one process leaves for the next. It lies in a memory file and nowhere
// else.
type session struct {
	Token     string    `json:"token,omitempty"`     // of AppRole; that of a token file stays there
	File      string    `json:"file,omitempty"`      // SHA-256 of the token file's token, of which the rest is true
	SecretID  string    `json:"secret_id,omitempty"` // that was unwrapped
	Renewable bool      `json:"renewable,omitempty"`
	Whole     int       `json:"whole,omitempty"` // seconds that the token was given at first
	Granted   time.Time `json:"granted,omitzero"`
	Expires   time.Time `json:"expires,omitzero"` // zero: never
}

// loadSession reads what the process before has left; nothing is a session without a login.
func loadSession(fd int) (*session, error) {
	b := make([]byte, pinfile.MaxPIN())
	defer clear(b)
	n, err := pinfile.Read(fd, b)
	s := &session{}
	switch {
	case errors.Is(err, pinfile.ErrEmpty):
		return s, nil
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(b[:n], s); err != nil {
		return nil, errors.New("vault: the login of the process before cannot be read")
	}
	return s, nil
}

// store leaves the session for the next process.
func (s *session) store(fd int) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	defer clear(b)
	if len(b) > pinfile.MaxPIN() {
		return refused("the login takes %d bytes, which is more than keyd keeps: use a service token in place of a batch token, with fewer policies", len(b))
	}
	return pinfile.Replace(fd, b)
}

// forget drops the token and keeps the secret-id.
func (s *session) forget() { *s = session{SecretID: s.SecretID} }

// holds reports whether the token is good for a while.
func (s *session) holds(now time.Time) bool {
	return s.Expires.IsZero() || now.Before(s.Expires.Add(-margin))
}

// margin is how much time a token must have left to be used.
const margin = 2 * time.Second

// due reports whether half of the token's time is over.
func (s *session) due(now time.Time) bool {
	return !s.Expires.IsZero() && s.Renewable && now.After(s.Granted.Add(s.Expires.Sub(s.Granted)/2))
}

// grant notes how long a token is good for.
func (s *session) grant(seconds int, renewable bool, now time.Time) {
	s.Renewable, s.Granted, s.Expires = renewable, now, time.Time{}
	if seconds > 0 {
		s.Expires = now.Add(time.Duration(seconds) * time.Second)
	}
	s.Whole = max(s.Whole, seconds)
}
