package token

import "sync/atomic"

// Failures is how many calls failed with return values of one class.
type Failures struct {
	Class string // "busy"
	Count uint64
}

// classNames are for metrics and the status, by class.
var classNames = [...]string{
	TokenDead:   "token_dead",
	SessionDead: "session_dead",
	HandleStale: "handle_stale",
	Busy:        "busy",
	Refused:     "refused",
	Bug:         "bug",
	LoginFailed: "login_failed",
}

// String returns the name that metrics and the status use.
func (c Class) String() string {
	if int(c) < len(classNames) {
		return classNames[c]
	}
	return classNames[TokenDead]
}

// failures counts by class. It is the process's, like the library: a process has one token.
var failures [len(classNames)]atomic.Uint64

// failed makes the error of a call, and counts it.
func failed(name string, code uint) *Error {
	e := &Error{Call: name, Code: code}
	failures[e.Class()].Add(1)
	return e
}

// FailureCount returns the failed calls of this process, every class. What a module tries
// out at its start, to learn what the token can do, is among them.
func FailureCount() []Failures {
	list := make([]Failures, len(classNames))
	for class, name := range classNames {
		list[class] = Failures{Class: name, Count: failures[class].Load()}
	}
	return list
}
