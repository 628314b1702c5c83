//go:build !profile

package main

// startProfile does nothing in a binary that is not built for bench -profile.
func startProfile(dir, name string) (stop func()) { return func() {} }
