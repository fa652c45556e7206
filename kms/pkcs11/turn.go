package pkcs11

import (
	"context"
	"math/rand/v2"
	"os"
	"time"
)

// maxTurn is how long a process waits for its turn before it goes on without: the lock is a courtesy, not a right.
const maxTurn = 10 * time.Second

// A turn keeps the processes of this machine that use one module from looking at a token while one of them logs in: SoftHSM
// rewrites a token's file at each login, and a process that reads it meanwhile sees no token, or one whose PIN was never set. The
// lock is on the module's file, so that nothing is left behind. The zero value is always its own turn.
type turn struct {
	f *os.File
}

func takeTurns(path string) turn {
	f, err := os.Open(path)
	if err != nil {
		return turn{} // loading it says so
	}
	return turn{f}
}

// look waits for its turn to look at tokens, beside others that do.
func (w turn) look(ctx context.Context) { w.wait(ctx, w.shared) }

// login waits for its turn to log in, alone.
func (w turn) login(ctx context.Context) { w.wait(ctx, w.exclusive) }

func (w turn) wait(ctx context.Context, lock func() bool) {
	if w.f == nil {
		return
	}
	for begun := time.Now(); !lock() && time.Since(begun) < maxTurn; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Millisecond + rand.N(4*time.Millisecond)):
		}
	}
}

func (w turn) close() {
	if w.f != nil {
		w.f.Close()
	}
}
