//go:build race

package e2e

// raced: the race detector is on, and takes several times the processor's time.
const raced = true
