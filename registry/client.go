package registry

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
)

// Defaults of [Options].
const (
	defaultTimeout = 5 * time.Minute
	defaultPerHost = 32
	defaultAgent   = "imprint"
)

// Options of a [Client]: one per run. The zero value talks HTTPS (HTTP to loopback hosts) with nobody's credentials.
type Options struct {
	CAFile, ClientCert, ClientKey string
	PlainHTTP                     bool
	TrustRealms                   []string      // further hosts whose token realms are believed: HOST (any port) or HOST:PORT
	Timeout                       time.Duration // of one object that does not move; 0: 5 minutes
	PerHost                       int           // requests in flight per host, bodies that are streamed apart; 0: 32
	MaxRate                       int64         // bytes of blobs a second, in each direction, of the whole client; 0: unbounded
	UserAgent                     string
	// Credentials returns what docker's configuration holds for host; nil: anonymous. See [DockerCredentials].
	Credentials CredentialFunc
	// Warn is told once per thing that a person should know (a registry without DELETE); nil: dropped. It may be
	// called concurrently.
	Warn func(code, text string)
}

// A Client opens repositories; it holds connections, tokens and what was learned of each host. It may be used concurrently.
type Client struct {
	options Options
	retry   *retrier
	auth    *authorizer
	down    *bandwidth
	up      *bandwidth
	now     func() time.Time // bounds the settling; tests shorten it
	chunk   int64            // of an upload that goes in chunks; tests lower it

	mu     sync.Mutex
	hosts  map[string]*hostState
	repos  map[string]*repoState
	warned map[string]bool
}

// hostState is what was learned of one registry.
type hostState struct {
	// singleUpload says whether POST ?digest= with a body is honoured, which costs a request to find out.
	singleUpload fact
	probing      probing // the requests that are finding that out
	// mount says whether POST ?mount= asks for a blob; where it is refused as such, HEAD does.
	mount fact
	// tagQuery says whether PUT ?tag= writes tags (OCI-Tag).
	tagQuery fact
	// blobs is where blobs are.
	blobs holdings
	// date is the clock of its last answer that had one, in seconds since 1970.
	date atomic.Int64
}

// clock is what the registry's clock said in its last answer; zero if it never said.
func (h *hostState) clock() time.Time {
	if at := h.date.Load(); at != 0 {
		return time.Unix(at, 0).UTC()
	}
	return time.Time{}
}

// repoState is what was learned of one repository of a registry.
type repoState struct {
	api fact // the referrers API; some registries have it for some repositories only (proxies)

	mu      sync.Mutex
	locks   map[string]chan struct{}   // one per fallback tag: merges of one process take turns
	removed map[digest.Digest]struct{} // referrers that this process took out: a merge never brings them back
	listed  map[digest.Digest]struct{} // what the referrers API has listed
}

// A fact is unknown, true or false.
type fact struct{ v atomic.Int32 }

func (f *fact) set(yes bool) {
	if yes {
		f.v.Store(1)
		return
	}
	f.v.Store(-1)
}

func (f *fact) yes() bool { return f.v.Load() > 0 }
func (f *fact) no() bool  { return f.v.Load() < 0 }

// NewClient makes a client. It reads the CA file and the client certificate, and connects to nothing. Errors wrap [ErrConfig].
func NewClient(o Options) (*Client, error) {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.PerHost <= 0 {
		o.PerHost = defaultPerHost
	}
	if o.UserAgent == "" {
		o.UserAgent = defaultAgent
	}
	base, err := newTransport(o)
	if err != nil {
		return nil, &Error{Code: codeConfig, Err: err}
	}
	c := &Client{
		options: o,
		now:     time.Now,
		chunk:   uploadChunk,
		hosts:   make(map[string]*hostState),
		repos:   make(map[string]*repoState),
		warned:  make(map[string]bool),
	}
	c.retry = newRetrier(base, o)
	c.down, c.up = newBandwidth(o.MaxRate), newBandwidth(o.MaxRate)
	c.auth = newAuthorizer(c.retry, o)
	return c, nil
}

// Open opens where ref is, for reading (and, remote repositories and layouts, for writing what refers to what is
// there). A layout or archive that does not exist is ErrNotFound. For a remote repository no request is made.
func (c *Client) Open(ctx context.Context, ref Reference) (*Repo, error) {
	switch ref.Kind {
	case Remote:
		return c.openRemote(ref)
	case Layout:
		s, err := openLayout(ref.Path)
		if err != nil {
			return nil, err
		}
		return newRepo(s, ref), nil
	case Archive:
		s, err := readArchive(ref.Path)
		if err != nil {
			return nil, err
		}
		return newRepo(s, ref), nil
	}
	return nil, fmt.Errorf("%w: kind %d", ErrReference, ref.Kind)
}

// CreateOptions of [Client.Create].
type CreateOptions struct {
	Overwrite bool // replace an archive that exists, which is otherwise an error
	// Append keeps what is in an archive that exists, names too, and adds to it; one that does not exist is begun.
	// Files of other formats in the same tar (docker's manifest.json and repositories) describe only what was there
	// before, and are left out.
	Append bool
}

// Create opens where ref is for writing; a layout's folder is made, an archive begun, which is there once
// [Repo.Commit] has put it in place.
func (c *Client) Create(ctx context.Context, ref Reference, o CreateOptions) (*Repo, error) {
	switch ref.Kind {
	case Remote:
		return c.openRemote(ref)
	case Layout:
		s, err := createLayout(ref.Path)
		if err != nil {
			return nil, err
		}
		return newRepo(s, ref), nil
	case Archive:
		s, err := beginArchive(ctx, ref.Path, o)
		if err != nil {
			return nil, err
		}
		return newRepo(s, ref), nil
	}
	return nil, fmt.Errorf("%w: kind %d", ErrReference, ref.Kind)
}

func (c *Client) openRemote(ref Reference) (*Repo, error) {
	if ref.Host == "" || ref.Path == "" {
		return nil, fmt.Errorf("%w: a repository needs a host and a path", ErrReference)
	}
	return newRepo(&remote{
		client: c,
		host:   ref.Host,
		name:   ref.Path,
		base:   c.scheme(ref.Host) + "://" + connectHost(ref.Host),
		learnt: c.host(ref.Host),
		state:  c.repo(ref.Host + "/" + ref.Path),
	}, ref), nil
}

// connectHost is where a canonical registry host answers.
func connectHost(host string) string {
	if host == "docker.io" {
		return "registry-1.docker.io"
	}
	return host
}

// scheme is http for loopback hosts and where the caller said so, else https.
func (c *Client) scheme(host string) string {
	if c.options.PlainHTTP || isLoopback(host) {
		return "http"
	}
	return "https"
}

func isLoopback(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

func (c *Client) host(name string) *hostState {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := c.hosts[name]
	if h == nil {
		h = &hostState{}
		c.hosts[name] = h
	}
	return h
}

func (c *Client) repo(name string) *repoState {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.repos[name]
	if r == nil {
		r = &repoState{
			locks:   make(map[string]chan struct{}),
			removed: make(map[digest.Digest]struct{}),
		}
		c.repos[name] = r
	}
	return r
}

// warn tells a person about something once: the same code about the same thing again is dropped.
func (c *Client) warn(code, about, text string) {
	if c.options.Warn == nil {
		return
	}
	key := code + " " + about
	c.mu.Lock()
	known := c.warned[key]
	c.warned[key] = true
	c.mu.Unlock()
	if !known {
		c.options.Warn(code, text)
	}
}

// lock takes the turn to write a fallback tag, and returns how to give it back.
func (r *repoState) lock(ctx context.Context, tag string) (unlock func(), err error) {
	r.mu.Lock()
	l := r.locks[tag]
	if l == nil {
		l = make(chan struct{}, 1)
		r.locks[tag] = l
	}
	r.mu.Unlock()
	select {
	case l <- struct{}{}:
		return func() { <-l }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r *repoState) setRemoved(d digest.Digest, gone bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if gone {
		r.removed[d] = struct{}{}
		return
	}
	delete(r.removed, d)
}

func (r *repoState) isRemoved(d digest.Digest) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.removed[d]
	return ok
}
