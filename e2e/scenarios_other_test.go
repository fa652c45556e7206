//go:build !linux

package e2e

import "os/exec"

// unplugged can be had on Linux only: elsewhere what the test counts must do.
func unplugged(*exec.Cmd) {}
