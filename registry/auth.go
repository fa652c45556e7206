package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"oras.land/oras-go/v2/registry/remote/auth"
)

// A Credential is one for a registry host. Its String never shows secrets.
type Credential struct {
	Username, Password, RefreshToken, AccessToken string
}

// String names the kind of credential and the user, nothing else.
func (c Credential) String() string {
	switch {
	case c == Credential{}:
		return "no credential"
	case c.Username != "":
		return fmt.Sprintf("credential of %q", c.Username)
	}
	return "a token"
}

// GoString is String: %#v shows no secret either.
func (c Credential) GoString() string { return c.String() }

// A CredentialFunc returns the credential for a registry host (empty: anonymous).
type CredentialFunc func(ctx context.Context, host string) (Credential, error)

const maxRedirects = 5

// An authorizer sends requests with what the registry asks for. oras-go's auth client decides when to ask and
// remembers tokens by host and scope; the authorizer sits around it and decides what may be answered: only believed
// realms, only the request's own scopes, and a credential that was refused is never sent a second time.
type authorizer struct {
	client *auth.Client
	tokens *http.Client
	next   http.RoundTripper

	agent       string
	trusted     []string
	credentials CredentialFunc

	mu    sync.Mutex
	hosts map[string]*hostAuth
}

// hostAuth is the credential for one host.
type hostAuth struct {
	mu       chan struct{} // held while a credential is sent that has not been accepted yet
	looked   bool
	cred     Credential
	accepted bool
	refused  error
	allowed  map[[2]string]struct{} // what the password was accepted for: see [hostAuth.judge]
	denials  int                    // refusals in a row since it was accepted
	tokens   []string               // that its token service gave for the credential, to know them if they come back
	bearer   challenge              // the last that was answered with a token: realm and service, without scope
}

// An exchange is one request with its challenge; it travels in the request's context between auth.Client, which sees
// the answer, and the credential function that it calls.
type exchange struct {
	host         string // canonical, for the credential
	origin       *url.URL
	repositories []string
	actions      [][2]string // what is to be done: repository, action
	challenge    challenge
}

type exchangeKey struct{}

func newAuthorizer(next http.RoundTripper, o Options) *authorizer {
	a := &authorizer{next: next, agent: o.UserAgent, trusted: o.TrustRealms, credentials: o.Credentials, hosts: make(map[string]*hostAuth)}
	a.client = &auth.Client{
		Client:     &http.Client{Transport: a, CheckRedirect: checkRedirect},
		Cache:      auth.NewCache(),
		Credential: a.credential,
		Header:     http.Header{"User-Agent": {o.UserAgent}},
	}
	a.tokens = &http.Client{Transport: next, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return a
}

// do sends req, whose context names the scopes, to a registry.
func (a *authorizer) do(req *http.Request, host string, scopes map[string]string) (*http.Response, error) {
	x := &exchange{host: host, origin: req.URL}
	hints := make([]string, 0, len(scopes))
	for name, actions := range scopes {
		x.repositories = append(x.repositories, name)
		for action := range strings.SplitSeq(actions, ",") {
			x.actions = append(x.actions, [2]string{name, action})
		}
		if name == "" { // of no repository: the list of them
			hints = append(hints, auth.ScopeRegistryCatalog)
			continue
		}
		hints = append(hints, auth.ScopeRepository(name, strings.Split(actions, ",")...))
	}
	ctx := auth.WithScopes(context.WithValue(req.Context(), exchangeKey{}, x), hints...)
	if err := a.foresee(ctx, x); err != nil {
		if req.Body != nil {
			_ = req.Body.Close()
		}
		return nil, err
	}
	return a.client.Do(req.WithContext(ctx))
}

// foresee fetches the token of a scope that is new before the first request needs it, where the host is known to want
// one: it saves a refusal for each repository. Whoever gives none decides nothing: the request does without, and what
// it is answered counts.
func (a *authorizer) foresee(ctx context.Context, x *exchange) error {
	h := a.host(x.host)
	select {
	case h.mu <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	known := h.bearer
	<-h.mu
	if !known.bearer {
		return nil
	}
	host := x.origin.Host
	key := strings.Join(auth.GetAllScopesForHost(ctx, host), " ")
	if _, err := a.client.Cache.GetToken(ctx, host, auth.SchemeBearer, key); err == nil {
		return nil
	}
	// Nothing but what was believed at a challenge of this very host is asked.
	if err := a.believe(known.realm, x.origin); err != nil {
		return nil //nolint:nilerr // then the host is asked first, and its challenge judged
	}
	_, err := a.client.Cache.Set(ctx, host, auth.SchemeBearer, key, func(ctx context.Context) (string, error) {
		y := *x
		y.challenge = known
		cred, err := a.credential(context.WithValue(ctx, exchangeKey{}, &y), host)
		return cred.AccessToken, err
	})
	if errors.Is(err, ErrUnauthorized) {
		return nil
	}
	return err
}

// RoundTrip carries requests of auth.Client: it holds back a credential that was refused, and replaces a challenge by
// what we are willing to answer.
func (a *authorizer) RoundTrip(req *http.Request) (*http.Response, error) {
	x, _ := req.Context().Value(exchangeKey{}).(*exchange)
	if x == nil || !sameOrigin(x.origin, req.URL) {
		// A redirect has left the registry: whatever is asked for there gets no answer.
		req = req.Clone(req.Context())
		req.Header.Del("Authorization")
		return a.next.RoundTrip(req)
	}
	send := a.next.RoundTrip
	basic := strings.HasPrefix(req.Header.Get("Authorization"), "Basic ")
	if basic {
		send = a.guarded(x)
	}
	resp, err := send(req)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	c, ok, err := parseChallenges(resp.Header)
	resp.Header.Del("Www-Authenticate")
	switch {
	case err != nil:
		discard(resp)
		return nil, fail(codeUnauthorized, "%w: %s asks for credentials in a way that cannot be read: %w", ErrUnauthorized, x.host, err)
	case !ok, basic: // nothing that we can answer, or not again
		return resp, nil
	case !c.bearer:
		resp.Header.Set("Www-Authenticate", "Basic")
		return resp, nil
	}
	if err := a.believe(c.realm, x.origin); err != nil {
		discard(resp)
		return nil, err
	}
	x.challenge = c
	// The token is fetched by [authorizer.token] and handed over as an access token, so that the realm given here is
	// never used: oras-go refuses those on private addresses, which --trust-realm may name.
	own := strings.Join(ownScope(c.scope, x.repositories), " ")
	resp.Header.Set("Www-Authenticate", fmt.Sprintf("Bearer realm=%q,scope=%q", x.origin.Scheme+"://"+x.origin.Host, own))
	return resp, nil
}

// guarded sends a request with a credential. Until the registry has accepted it once, it is sent by one request at a
// time, and once refused never again: sixteen requests with an old password lock an account.
func (a *authorizer) guarded(x *exchange) func(*http.Request) (*http.Response, error) {
	h := a.host(x.host)
	return func(req *http.Request) (*http.Response, error) {
		done, err := h.begin(req.Context())
		if err != nil {
			if req.Body != nil {
				_ = req.Body.Close()
			}
			return nil, err
		}
		resp, err := a.next.RoundTrip(req)
		done(func() {
			if err == nil {
				h.judge(x, resp.StatusCode)
			}
		})
		return resp, err
	}
}

// maxDenials is how many refusals in a row are believed to be of what was asked for, not of a password that was good.
const maxDenials = 3

// judge notes what an answer says of a password. Some registries answer 401, not 403, where it is a good one that may
// not do this (a mount from a repository that it may not read): that must not end what it may do. One that did it
// before and cannot any more was changed. Call with the turn taken.
func (h *hostAuth) judge(x *exchange, status int) {
	switch {
	case status >= 500:
	case status != http.StatusUnauthorized:
		if h.allowed == nil {
			h.allowed = make(map[[2]string]struct{})
		}
		for _, did := range x.actions {
			h.allowed[did] = struct{}{}
		}
		h.accepted, h.denials = true, 0
	default:
		could := !slices.ContainsFunc(x.actions, func(do [2]string) bool { _, ok := h.allowed[do]; return !ok })
		if h.denials++; !h.accepted || could || h.denials >= maxDenials {
			h.refused = refusedError(x.host)
		}
	}
}

func refusedError(host string) error {
	return fail(codeUnauthorized, "%w: %s refused the credential", ErrUnauthorized, host)
}

// begin waits for the turn to send the credential. done gives the turn back, once note has noted how it went.
func (h *hostAuth) begin(ctx context.Context) (done func(note func()), err error) {
	select {
	case h.mu <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if h.refused != nil {
		<-h.mu
		return nil, h.refused
	}
	if h.accepted {
		<-h.mu
		return func(note func()) {
			h.mu <- struct{}{}
			note()
			<-h.mu
		}, nil
	}
	return func(note func()) {
		note()
		<-h.mu
	}, nil
}

func (a *authorizer) host(name string) *hostAuth {
	a.mu.Lock()
	defer a.mu.Unlock()
	h := a.hosts[name]
	if h == nil {
		h = &hostAuth{mu: make(chan struct{}, 1)}
		a.hosts[name] = h
	}
	return h
}

// lookup asks for a host's credential, once.
func (a *authorizer) lookup(ctx context.Context, host string) (Credential, error) {
	if a.credentials == nil {
		return Credential{}, nil
	}
	h := a.host(host)
	select {
	case h.mu <- struct{}{}:
		defer func() { <-h.mu }()
	case <-ctx.Done():
		return Credential{}, ctx.Err()
	}
	if h.looked {
		return h.cred, nil
	}
	cred, err := a.credentials(ctx, host)
	if err != nil {
		return Credential{}, err
	}
	h.looked, h.cred = true, cred
	return cred, nil
}

// credential is called by auth.Client when a challenge must be answered: a password for Basic, an access token for Bearer.
func (a *authorizer) credential(ctx context.Context, _ string) (auth.Credential, error) {
	x, _ := ctx.Value(exchangeKey{}).(*exchange)
	if x == nil {
		return auth.EmptyCredential, nil
	}
	cred, err := a.lookup(ctx, x.host)
	if err != nil {
		return auth.EmptyCredential, err
	}
	if x.challenge.bearer {
		token, err := a.token(ctx, x, cred)
		if err != nil {
			return auth.EmptyCredential, err
		}
		if err := a.remember(ctx, x, token); err != nil {
			return auth.EmptyCredential, err
		}
		return auth.Credential{AccessToken: token}, nil
	}
	if cred.Username == "" || cred.Password == "" {
		return auth.EmptyCredential, noCredential(x.host)
	}
	return auth.Credential{Username: cred.Username, Password: cred.Password}, nil
}

// remember keeps a token for [authorizer.redact], and who gave it for [authorizer.foresee].
func (a *authorizer) remember(ctx context.Context, x *exchange, token string) error {
	h := a.host(x.host)
	select {
	case h.mu <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-h.mu }()
	h.bearer = challenge{bearer: true, realm: x.challenge.realm, service: x.challenge.service}
	if !slices.Contains(h.tokens, token) {
		h.tokens = append(h.tokens, token)
	}
	return nil
}

// redact takes a host's credential, and the tokens that it gave for it, out of what that host has written: some
// repeat in their errors what they were sent.
func (a *authorizer) redact(host, text string) string {
	h := a.host(host)
	h.mu <- struct{}{}
	cred, tokens := h.cred, h.tokens
	<-h.mu
	basic := base64.StdEncoding.EncodeToString([]byte(cred.Username + ":" + cred.Password))
	for _, secret := range slices.Concat([]string{basic, cred.Password, cred.RefreshToken, cred.AccessToken}, tokens) {
		if len(secret) > 3 {
			text = strings.ReplaceAll(text, secret, "[redacted]")
		}
	}
	return text
}

func noCredential(host string) error {
	return fail(codeUnauthorized, "%w: no credential for %s", ErrUnauthorized, host)
}

// checkRedirect follows reads only, from https to https, and not for ever; auth.Client takes the credentials off when
// the host changes.
func checkRedirect(req *http.Request, via []*http.Request) error {
	first := via[0]
	if first.Method != http.MethodGet && first.Method != http.MethodHead {
		return http.ErrUseLastResponse
	}
	if len(via) > maxRedirects {
		return fail(codeRedirect, "%w: more than %d redirects", ErrRefused, maxRedirects)
	}
	if req.URL.Scheme != "https" && (req.URL.Scheme != "http" || first.URL.Scheme != "http") {
		return fail(codeRedirect, "%w: redirect to %s, which is not encrypted", ErrRefused, strconv.QuoteToASCII(req.URL.Host))
	}
	req.Header.Del("Referer") // a redirect's query may be as good as a credential
	return nil
}

// sameOrigin compares scheme, host and port.
func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && canonicalHost(a) == canonicalHost(b)
}

// canonicalHost is host:port, lower case.
func canonicalHost(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// asOwnError returns the *Error inside what http.Client and auth.Client wrapped with URLs.
func asOwnError(err error) (*Error, bool) {
	var own *Error
	ok := errors.As(err, &own)
	return own, ok
}
