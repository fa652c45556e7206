package notationplugin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"time"

	"github.com/imprint-oci/imprint/kms"
)

const (
	// maxOutput bounds stdout and stderr, each. The specification's 64 MiB would hold dozens of envelopes of the largest size.
	maxOutput = 16 << 20
	// maxComplaint is how much of stderr is kept.
	maxComplaint = 64 << 10
	// linger is how long output is still waited for once the process has left, or was ended: something that it started may
	// hold the pipes for ever.
	linger = time.Second
)

var errFlood = fmt.Errorf("it wrote more than %d MiB", maxOutput>>20)

// run starts one process, hands it a request, and returns what it wrote to stdout when it left with success. It is ended, with all
// that it started and that did not leave its process group, when ctx ends or when it writes too much.
func (p *plugin) run(ctx context.Context, command string, request any) ([]byte, error) {
	in, err := json.Marshal(request)
	if err != nil {
		return nil, p.broken(command, "writing the request: %w", err)
	}
	defer clear(in) // it may hold a PIN

	running, flood := context.WithCancelCause(ctx)
	defer flood(nil)
	stdout := &bounded{keep: maxOutput, over: func() { flood(errFlood) }}
	stderr := &bounded{keep: maxComplaint, over: func() { flood(errFlood) }}
	c := exec.CommandContext(running, p.path, command)
	c.Env = p.environ
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(in), stdout, stderr
	c.WaitDelay = linger
	inGroup(c)
	if err := c.Start(); err != nil {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("plugin %s: %s: %w", p.name, command, context.Cause(ctx))
		}
		return nil, p.broken(command, "it cannot be started: %w", err)
	}
	err = c.Wait()
	if err != nil {
		_ = endGroup(c) // what it left behind
	}
	var exit *exec.ExitError
	switch {
	case errors.Is(context.Cause(running), errFlood):
		return nil, p.broken(command, "%w", errFlood)
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return stdout.kept.Bytes(), nil // a whole answer is an answer, whoever holds the pipes
	case ctx.Err() != nil:
		return nil, fmt.Errorf("plugin %s: %s: ended before it answered: %w", p.name, command, context.Cause(ctx))
	case errors.As(err, &exit):
		return nil, p.failed(command, exit, stderr.kept.Bytes())
	}
	return nil, p.broken(command, "reading its answer: %w", err)
}

// ask runs the plugin until it answers as [kms.Ask] does. It is for what is asked outside of a signature.
func (p *plugin) ask(ctx context.Context, command string, request any) (m members, err error) {
	err = kms.Ask(ctx, p.patience, func(ctx context.Context) (err error) {
		m, err = p.askOnce(ctx, command, request)
		return err
	})
	return m, err
}

func (p *plugin) askOnce(ctx context.Context, command string, request any) (members, error) {
	out, err := p.run(ctx, command, request)
	if err != nil {
		return nil, err
	}
	m, err := parse(out)
	if err != nil {
		return nil, p.broken(command, "its answer %w", err)
	}
	return m, nil
}

// A bounded keeps the beginning of what is written to it. It embeds no buffer, whose ReadFrom would go round Write.
type bounded struct {
	kept bytes.Buffer
	keep int
	seen int
	over func() // called beyond maxOutput
}

func (b *bounded) Write(p []byte) (int, error) {
	b.seen += len(p)
	if b.seen > maxOutput {
		b.over()
		return 0, errFlood
	}
	if room := b.keep - b.kept.Len(); room > 0 {
		b.kept.Write(p[:min(room, len(p))])
	}
	return len(p), nil
}
