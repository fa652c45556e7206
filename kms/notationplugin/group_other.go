//go:build !unix

package notationplugin

import "os/exec"

// inGroup leaves a command as it is: [exec.CommandContext] ends the process alone.
func inGroup(*exec.Cmd) {}

func endGroup(*exec.Cmd) error { return nil }
