//go:build !goexperiment.runtimesecret

package officer

// erased runs a computation on a secret. This build leaves its stack as it is; one with
// GOEXPERIMENT=runtimesecret erases it.
func erased(f func()) { f() }
