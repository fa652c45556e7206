package pkcs11

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/imprint-oci/imprint/kms"
	"github.com/imprint-oci/imprint/kms/pkcs11/cryptoki"
)

// A token is one that the URI may mean.
type token struct {
	module *cryptoki.Module
	slot   uint
	info   cryptoki.TokenInfo
	pins   pins
	turn   turn

	one    sync.Mutex // held around calls of a module that cannot lock
	mu     sync.Mutex
	idle   []*cryptoki.Session
	in     bool              // logged in, or no need to
	anchor *cryptoki.Session // stays open after our login, for a token forgets it with its last session
	last   error             // why the last login failed: there is no second
}

// name is the token, to people.
func (t *token) name() string {
	label := t.info.Label
	if label == "" {
		label = fmt.Sprintf("in slot %d", t.slot)
	}
	if t.info.Serial == "" {
		return kms.Text(label)
	}
	return kms.Text(fmt.Sprintf("%s (serial %s)", label, t.info.Serial))
}

// tokens lists the tokens that the URI may mean; none is an error that names those that are there.
func (sel *selector) tokens(m *cryptoki.Module, w turn, p pins) ([]*token, error) {
	lib, err := m.Info()
	if err != nil {
		return nil, refused(err)
	}
	if !sel.matchesLibrary(lib) {
		return nil, problem(kms.CodeNotFound, "leave the library- attributes out of the key URI, or name another module",
			"the module %s is %s %s by %s, not the one that the key URI asks for", m.Path, kms.Text(lib.Description), lib.Version, kms.Text(lib.Manufacturer))
	}
	slots, err := m.Slots()
	if err != nil {
		return nil, refused(err)
	}
	var found, others []*token
	blank := false
	for _, slot := range slots {
		t := &token{module: m, slot: slot, pins: p, turn: w}
		place, err := m.Slot(slot)
		if err == nil {
			t.info, err = m.Token(slot)
		}
		if err != nil {
			continue // taken out, or broken: the others are none the worse
		}
		match := sel.matchesToken(slot, place, t.info)
		switch {
		case t.info.Flags&cryptoki.FlagTokenReady == 0:
			blank = blank || match && sel.slot != nil
		case match:
			found = append(found, t)
		default:
			others = append(others, t)
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case blank:
		return nil, problem(kms.CodeUnusable, "initialise it: pkcs11-tool --module MODULE --init-token", "the token in slot %d is not initialised", *sel.slot)
	case len(others) == 0:
		return nil, problem(kms.CodeNotFound, "put the token in, and check that the module is the one for it", "the module %s shows no token", m.Path)
	}
	return nil, problem(kms.CodeNotFound, "take token= and serial= from what the module shows",
		"no token matches %s; the module %s shows %s", sel.wantsToken(), m.Path, listed(others, (*token).name))
}

// listed names at most five things.
func listed[T any](all []T, name func(T) string) string {
	const most = 5
	var names []string
	for i, v := range all {
		if i == most {
			names = append(names, fmt.Sprintf("and %d more", len(all)-most))
			break
		}
		names = append(names, name(v))
	}
	return strings.Join(names, ", ")
}

// alone keeps others out of a module that cannot lock. The returned function lets them in again.
func (t *token) alone() func() {
	if !t.module.Alone() {
		return func() {}
	}
	t.one.Lock()
	return t.one.Unlock
}

// session returns an idle session or opens one.
func (t *token) session() (*cryptoki.Session, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.idle); n > 0 {
		s := t.idle[n-1]
		t.idle = t.idle[:n-1]
		return s, nil
	}
	return t.module.OpenSession(t.slot)
}

// done gives a session back. After an error it may be in the middle of something, and is closed.
func (t *token) done(s *cryptoki.Session, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err == nil {
		t.idle = append(t.idle, s)
		return
	}
	_ = s.Close() // there is an error to tell already
}

// close logs out, closes the sessions that are idle and ends the module.
func (t *token) close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	var errs []error
	if t.anchor != nil {
		errs = append(errs, t.anchor.Logout(), t.anchor.Close())
	}
	for _, s := range t.idle {
		errs = append(errs, s.Close())
	}
	t.idle, t.in, t.anchor = nil, false, nil
	t.turn.close()
	return errors.Join(append(errs, t.module.Close())...)
}

// login shows the PIN to the token unless it was shown already, or the token wants none. It is tried once in the life of t.
func (t *token) login(ctx context.Context, s *cryptoki.Session, p *pin) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.in || t.info.Flags&cryptoki.FlagLoginRequired == 0 {
		t.in = true
		return nil
	}
	return t.show(ctx, s, cryptoki.UserUser, p)
}

// confirm shows the PIN for the one signature that was begun (CKA_ALWAYS_AUTHENTICATE).
func (t *token) confirm(ctx context.Context, s *cryptoki.Session, p *pin) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.show(ctx, s, cryptoki.ContextSpecific, p)
}

// show is the only place from which a PIN goes to a token. A refusal is the end: whatever its reason, there is no second try.
func (t *token) show(ctx context.Context, s *cryptoki.Session, user uint, p *pin) error {
	if t.last != nil {
		return t.last
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := t.locked(t.info.Flags); err != nil {
		return err
	}
	var secret []byte // nil: the token has a pad to ask at
	var err error
	if t.info.Flags&cryptoki.FlagPINPad == 0 {
		if secret, err = p.get(ctx, t); err != nil { // before its turn: a person takes longer than that
			return err
		}
	}
	t.turn.login(ctx)
	defer t.turn.done()
	if err := t.locked(t.flags()); err != nil {
		return err
	}
	err = s.Login(user, secret)
	var e *cryptoki.Error
	if user == cryptoki.UserUser && errors.As(err, &e) && e.Code == cryptoki.UserAlreadyLoggedIn {
		t.in = true
		return nil
	}
	if err != nil {
		t.last = t.rejected(err)
		return t.last
	}
	if user == cryptoki.UserUser {
		t.in = true
		t.anchor, err = t.module.OpenSession(t.slot)
	}
	return err
}

func (t *token) locked(flags uint) error {
	if flags&cryptoki.FlagUserPINLocked == 0 {
		return nil
	}
	return problem(kms.CodeUnusable, unlock, "the PIN of the token %s is locked", t.name())
}

// flags are the token's as of now, or as they were.
func (t *token) flags() uint {
	if i, err := t.module.Token(t.slot); err == nil {
		return i.Flags
	}
	return t.info.Flags
}

// rejected explains a login that failed, and what is left.
func (t *token) rejected(err error) error {
	err = refused(err)
	var e *kms.Error
	if !errors.As(err, &e) || e.Code != kms.CodeDenied {
		return fmt.Errorf("logging in to the token %s: %w", t.name(), err)
	}
	left := ""
	switch flags := t.flags(); {
	case flags&cryptoki.FlagUserPINLocked != 0:
		left, e.Remedy = "; the PIN is locked now", unlock
	case flags&cryptoki.FlagUserPINFinalTry != 0:
		left = "; one try is left before it locks the PIN"
	}
	return fmt.Errorf("logging in to the token %s: %w%s", t.name(), err, left)
}
