package cmd

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/imprint-oci/imprint/kms"
)

// An Env is the world as imprint sees it. Nothing below it looks at the process.
type Env struct {
	In       io.Reader
	Out, Err io.Writer
	Environ  []string // as os.Environ
	Keys     kms.Providers
	Now      func() time.Time
	Terminal Terminal
	// SystemDir holds the machine's configuration and policy; "" is /etc/imprint.
	SystemDir string
}

// A Terminal is what of Out and Err is a terminal, and who can be asked.
type Terminal struct {
	Out, Err bool
	Width    int // columns; 0: unknown
	// Size is how large Err is now; nil: as wide as Width.
	Size func() (columns, rows int)
	// Secret asks the person for a secret without echo; nil: nobody can be asked.
	Secret func(ctx context.Context, prompt string) ([]byte, error)
}

// size is how large the terminal is now, as far as is known.
func (t Terminal) size() (columns, rows int) {
	if t.Size != nil {
		if columns, rows = t.Size(); columns > 0 && rows > 0 {
			return columns, rows
		}
	}
	return cmp.Or(t.Width, 80), 24
}

// Getenv returns the last value of name in the environment, "" if there is none.
func (e Env) Getenv(name string) string {
	for i := len(e.Environ) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(e.Environ[i], name+"="); ok {
			return v
		}
	}
	return ""
}

// An interruption is the cause of a context that a signal cancelled.
type interruption struct{ signal syscall.Signal }

func (i interruption) Error() string {
	if i.signal == syscall.SIGINT {
		return "SIGINT"
	}
	return "SIGTERM"
}

// Main runs imprint with the process's arguments and exits.
func Main() {
	// Nothing of ours logs; what net/http logs of a registry's odd answers is no talk to people.
	log.SetOutput(io.Discard)
	if os.Getenv("GOGC") == "" {
		roomy()
	}
	// Without SIGPIPE a closed pipe is an error of the write, and whether the work was done decides the exit code.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	go func() {
		first := (<-signals).(syscall.Signal)
		cancel(interruption{first})
		second := (<-signals).(syscall.Signal)
		os.Exit(exitSignal + int(second))
	}()

	env := Env{
		In:      os.Stdin,
		Out:     os.Stdout,
		Err:     os.Stderr,
		Environ: os.Environ(),
		Keys:    Providers(),
		Now:     time.Now,
		Terminal: Terminal{
			Out:    term.IsTerminal(int(os.Stdout.Fd())),
			Err:    term.IsTerminal(int(os.Stderr.Fd())),
			Secret: askTerminal,
		},
	}
	if env.Terminal.Err {
		env.Terminal.Size = func() (columns, rows int) {
			columns, rows, _ = term.GetSize(int(os.Stderr.Fd()))
			return columns, rows
		}
		env.Terminal.Width, _ = env.Terminal.Size()
	}
	os.Exit(Run(ctx, os.Args[1:], env))
}

// Run runs imprint with args in env and returns its exit code.
func Run(ctx context.Context, args []string, env Env) int {
	s := newSession(env)
	root := newRoot(s)
	root.SetArgs(args)
	root.SetIn(env.In)
	root.SetOut(s.out)
	root.SetErr(s.err)
	s.guess(args)
	err := root.ExecuteContext(ctx)
	var i interruption
	if err != nil && errors.As(context.Cause(ctx), &i) {
		err = &interrupted{i.signal, err}
	}
	return s.end(err)
}

// errNobody: there is no terminal to ask at.
var errNobody = errors.New("there is no terminal to ask at")

// askTerminal asks at the controlling terminal, so that standard input stays free for data. It gives the terminal its
// echo back when ctx ends while it waits.
func askTerminal(ctx context.Context, prompt string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errNobody
	}
	fd := int(tty.Fd())
	before, err := term.GetState(fd)
	if err != nil {
		tty.Close()
		return nil, errNobody
	}
	fmt.Fprint(tty, prompt)
	type reply struct {
		secret []byte
		err    error
	}
	replies := make(chan reply, 1)
	go func() {
		b, err := term.ReadPassword(fd)
		replies <- reply{b, err}
	}()
	select {
	case r := <-replies:
		fmt.Fprintln(tty)
		tty.Close()
		if r.err != nil {
			return nil, fmt.Errorf("reading from the terminal: %w", r.err)
		}
		return bytes.Clone(r.secret), nil
	case <-ctx.Done():
		term.Restore(fd, before)
		fmt.Fprintln(tty)
		return nil, context.Cause(ctx)
	}
}
