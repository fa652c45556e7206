//go:build unix && !aix && !solaris

package pkcs11

import (
	"errors"
	"syscall"
)

func (w turn) shared() bool    { return w.flock(syscall.LOCK_SH) }
func (w turn) exclusive() bool { return w.flock(syscall.LOCK_EX) }

// done lets others take their turn.
func (w turn) done() {
	if w.f != nil {
		w.flock(syscall.LOCK_UN)
	}
}

// flock reports false while others have their turn, and true where files cannot be locked.
func (w turn) flock(how int) bool {
	for {
		switch err := syscall.Flock(int(w.f.Fd()), how|syscall.LOCK_NB); {
		case errors.Is(err, syscall.EINTR):
		default:
			return !errors.Is(err, syscall.EWOULDBLOCK)
		}
	}
}
