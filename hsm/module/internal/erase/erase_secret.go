//go:build goexperiment.runtimesecret

// Package erase runs computations on secrets so that they leave nothing behind.
//
// A build with GOEXPERIMENT=runtimesecret erases registers, stack and heap that the
// computation used (runtime/secret). Any other build runs it as it is: clear values
// may then stay in unused stack until that is overwritten. No token call may be made
// inside: a cgo call within runtime/secret crashes the process.
package erase

import "runtime/secret"

// How says what this build does, for keyd status.
const How = "runtime/secret erases registers, stack and heap"

// Do runs f and erases what it used.
func Do(f func()) { secret.Do(f) }
