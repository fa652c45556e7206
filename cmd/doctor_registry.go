package cmd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/imprint-oci/imprint/cmd/ui"
	"github.com/imprint-oci/imprint/registry"
)

// examineRegistry looks at where ref is; the clock of a registry is compared with this machine's on the way.
func (in doctorInputs) examineRegistry(ctx context.Context, s *session, d *diagnosis, ref registry.Reference) {
	section := "registry"
	if ref.Kind != registry.Remote {
		d.add("clock", "clock", ui.NotChecked, "there is no registry's clock to compare with", "")
	}
	client, told, err := s.listeningClient()
	if err != nil {
		d.problem(section, "settings", err)
		return
	}
	repo, err := client.Open(ctx, ref)
	if err != nil {
		d.problem(section, "opened", err)
		return
	}
	defer repo.Close()
	if ref.Kind != registry.Remote {
		d.add(section, "opened", ui.OK, "it can be read", "")
		in.examineArtifact(ctx, d, repo, ref)
		return
	}

	found, err := repo.Examine(ctx, false)
	clock(s, d, ref.Host, found.Date)
	switch {
	case errors.Is(err, registry.ErrUnauthorized):
		d.add(section, "reachable", ui.OK, ref.Host+" answers", "")
		d.problem(section, "authorised", err)
		return
	case err != nil:
		d.problem(section, "reachable", err)
		return
	}
	d.add(section, "reachable", ui.OK, ref.Host+" answers", "")
	d.add(section, "authorised", ui.OK, told.credential(), "")
	in.examineArtifact(ctx, d, repo, ref)
	var wrote error
	if in.write {
		// A repository that the probe made says more than one that is not there.
		found, wrote = repo.Examine(ctx, true)
	}
	switch found.ReferrersAPI {
	case "yes":
		d.add(section, "referrers API", ui.OK, "yes", "")
	case "no":
		d.add(section, "referrers API", ui.OK, "no: what refers to an artifact is listed under a tag instead", "")
	default:
		d.add(section, "referrers API", ui.NotChecked, "it cannot be told while there is no repository "+ref.Path, "")
	}
	in.sayWriting(d, found, wrote)
	for _, w := range told.warnings() {
		d.add(section, "to note", ui.Warning, w, "")
	}
}

// examineArtifact looks whether what ref names is there.
func (in doctorInputs) examineArtifact(ctx context.Context, d *diagnosis, repo *registry.Repo, ref registry.Reference) {
	if ref.IsRepository() {
		return
	}
	m, err := repo.Resolve(ctx, ref)
	if err != nil {
		d.problem("registry", "artifact", err)
		return
	}
	d.add("registry", "artifact", ui.OK, fmt.Sprintf("it is there: %s", m.Descriptor.MediaType), "")
}

// sayWriting says what writing commands meet at the registry.
func (in doctorInputs) sayWriting(d *diagnosis, found registry.Capabilities, err error) {
	const section = "registry"
	if !in.write {
		for _, name := range []string{"delete", "mount", "single upload"} {
			d.add(section, name, ui.NotChecked, "", "--write finds out: it uploads a small blob and deletes what never was")
		}
		return
	}
	if err != nil {
		d.problem(section, "writing", fmt.Errorf("writing a probe: %w", err))
		return
	}
	d.add(section, "writing", ui.OK, "a small blob that nothing refers to was stored", "")
	switch found.Delete {
	case "yes":
		d.add(section, "delete", ui.OK, "yes", "")
	case "denied":
		d.add(section, "delete", ui.Warning, "we may not",
			"only rechain --replace needs it: ask for the right to delete, or leave old signatures beside the new ones")
	case "no":
		d.add(section, "delete", ui.Warning, "no", "only rechain --replace needs it: leave old signatures beside the new ones")
	default:
		d.add(section, "delete", ui.NotChecked, "its answer says neither yes nor no", "")
	}
	says := func(name, found, no string) {
		switch found {
		case "yes":
			d.add(section, name, ui.OK, "yes", "")
		case "no":
			d.add(section, name, ui.OK, no, "")
		default:
			d.add(section, name, ui.NotChecked, "its answer says neither yes nor no", "")
		}
	}
	says("mount", found.Mount, "no: copying within the registry sends the bytes again")
	says("single upload", found.SingleUpload, "no: a small blob takes two requests")
}

// maxSkew is how much this machine's clock may differ from a registry's.
const maxSkew = 5 * time.Minute

// clock compares this machine's clock with the registry's, which has just answered.
func clock(s *session, d *diagnosis, host string, theirs time.Time) {
	if theirs.IsZero() {
		d.add("clock", "clock", ui.NotChecked, "no answer of "+host+" said what time it is there", "")
		return
	}
	// Here the clock itself is what is judged: the run's one time was taken before the registry was asked.
	ours := s.env.Now()
	const set = "set this machine's clock: signatures carry its time, and chains are judged by it"
	skew := ours.Sub(theirs).Round(time.Second)
	switch {
	case skew.Abs() <= maxSkew:
		d.add("clock", "clock", ui.OK, "agrees with "+host, "")
	case skew > 0:
		d.add("clock", "clock", ui.Warning, fmt.Sprintf("%s ahead of %s", ui.Span(skew), host), set)
	default:
		d.add("clock", "clock", ui.Warning, fmt.Sprintf("%s behind %s", ui.Span(-skew), host), set)
	}
}

// A listener keeps what the registry client says while doctor looks.
type listener struct {
	mu    sync.Mutex
	cred  string
	texts []string
}

func (l *listener) credential() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cred == "" {
		return "it asked for no credential to read"
	}
	return "with " + l.cred
}

func (l *listener) warnings() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.texts)
}

// listeningClient returns a client of the network flags that tells what credential was asked for.
func (s *session) listeningClient() (*registry.Client, *listener, error) {
	l := &listener{}
	o := s.network.options(s)
	find := o.Credentials
	o.Credentials = func(ctx context.Context, host string) (registry.Credential, error) {
		cred, err := find(ctx, host)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.cred = cred.String()
		return cred, err
	}
	o.Warn = func(_, text string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.texts = append(l.texts, text)
	}
	c, err := registry.NewClient(o)
	return c, l, err
}
