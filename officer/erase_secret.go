//go:build goexperiment.runtimesecret

package officer

import "runtime/secret"

// erased runs a computation on a secret and erases registers, stack and heap that it
// used. No cgo call may be made inside.
func erased(f func()) { secret.Do(f) }
