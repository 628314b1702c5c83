//go:build !race

package velocity

const raceDetector = false
