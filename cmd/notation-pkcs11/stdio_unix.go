//go:build unix

package main

import (
	"os"
	"runtime/debug"

	"golang.org/x/sys/unix"
)

// reserved returns stdout and stderr for the answer alone. What the token's module prints, which is C code in this process, would
// make it unreadable to hosts: it goes nowhere. A crash is still told to the real stderr.
func reserved() (stdout, stderr *os.File) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return os.Stdout, os.Stderr
	}
	defer null.Close()
	own := make([]*os.File, 3)
	for fd := 1; fd <= 2; fd++ {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			return os.Stdout, os.Stderr
		}
		own[fd] = os.NewFile(uintptr(n), "")
	}
	for fd := 1; fd <= 2; fd++ {
		if err := unix.Dup2(int(null.Fd()), fd); err != nil {
			return own[1], own[2]
		}
	}
	_ = debug.SetCrashOutput(own[2], debug.CrashOptions{}) // without it a crash is an exit status only
	return own[1], own[2]
}
