//go:build !goexperiment.runtimesecret

// Package erase runs computations on secrets so that they leave nothing behind.
//
// A build with GOEXPERIMENT=runtimesecret erases registers, stack and heap that the
// computation used (runtime/secret). Any other build runs it as it is: clear values
// may then stay in unused stack until that is overwritten. No token call may be made
// inside: a cgo call within runtime/secret crashes the process.
package erase

// How says what this build does, for keyd status.
const How = "none: build with GOEXPERIMENT=runtimesecret to erase registers and stack"

// Do runs f.
func Do(f func()) { f() }
