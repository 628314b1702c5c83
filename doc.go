// Package keyd holds no code. It is the root of the module, and its test keeps the
// layout: which folder may import which, and the wall between the front and what sees
// clear PINs and keys.
//
// The program is in cmd/keyd, the contract in api/keyd/v1.
package keyd
