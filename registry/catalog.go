package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"net/url"
	"strings"
)

// codeCatalog: a registry that does not list its repositories. Most that are hosted do not.
const codeCatalog = "catalog-unsupported"

// Limits of a registry's list of repositories.
const (
	maxRepositories = 1_000_000
	maxCatalogPages = 10_000
)

// Repositories lists the repositories of a registry (GET /v2/_catalog, which the distribution specification no longer has)
// as they come, each once: all, or those that are prefix or lie below it, by whole segments of their path. Where the
// registry does not list them the error has the reason catalog-unsupported and wraps ErrUnsupported; where it does, and not for
// us, it wraps ErrUnauthorized.
func (c *Client) Repositories(ctx context.Context, host, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		s := &remote{client: c, host: host, base: c.scheme(host) + "://" + connectHost(host), learnt: c.host(host), state: &repoState{}}
		u, err := url.Parse(s.base + "/v2/_catalog?n=1000")
		if err != nil {
			yield("", fail(codeReference, "%w %q: it is no registry's host", ErrReference, clip(host)))
			return
		}
		names, total := make(map[mark]struct{}), 0
		list := s.pages(ctx, call{method: http.MethodGet, url: u, action: actionCatalog}, maxCatalogPages)
		for p, err := range orElse(list, tooMany, func() iter.Seq2[page, error] {
			own := *u
			own.RawQuery = "" // as many as the registry likes
			return s.pages(ctx, call{method: http.MethodGet, url: &own, action: actionCatalog}, maxCatalogPages)
		}) {
			if err != nil {
				yield("", catalogError(host, err))
				return
			}
			var body struct {
				Repositories *[]string `json:"repositories"`
			}
			if json.Unmarshal(p.body, &body) != nil || body.Repositories == nil {
				yield("", noCatalog(host, fmt.Sprintf("what it sends (%q) is no list of repositories", quote(p.header.Get("Content-Type")))))
				return
			}
			if total += len(*body.Repositories); total > maxRepositories {
				yield("", fail(codeCapped, "listing the repositories of %s: %w (%w): more than %d", host, ErrCapped, ErrTooLarge, maxRepositories))
				return
			}
			for _, name := range *body.Repositories {
				m := markOfName(name)
				if _, known := names[m]; known || !below(name, prefix) {
					continue
				}
				names[m] = struct{}{}
				if err := checkPath(name); err != nil {
					c.warn("catalog-entry", host+"/"+clip(name), fmt.Sprintf("%s lists the repository %s: %v; it is passed over", host, quote(clip(name)), err))
					continue
				}
				if !yield(name, nil) {
					return
				}
			}
		}
	}
}

// tooMany reports whether a registry gives fewer names a page than it was asked for, and says so instead of giving them.
func tooMany(err error) bool {
	e, _ := answered(err)
	return e.has("PAGINATION_NUMBER_INVALID")
}

// orElse is list, or other where list begins with an error that says so.
func orElse(list iter.Seq2[page, error], says func(error) bool, other func() iter.Seq2[page, error]) iter.Seq2[page, error] {
	return func(yield func(page, error) bool) {
		first := true
		for p, err := range list {
			if first && err != nil && says(err) {
				other()(yield)
				return
			}
			first = false
			if !yield(p, err) {
				return
			}
		}
	}
}

// below reports whether a repository is prefix or lies below it.
func below(name, prefix string) bool {
	prefix = strings.TrimSuffix(prefix, "/")
	rest, ok := strings.CutPrefix(name, prefix)
	return ok && (prefix == "" || rest == "" || rest[0] == '/')
}

func catalogError(host string, err error) error {
	e, answer := answered(err)
	switch {
	case answer && (e.status == http.StatusNotFound || errors.Is(err, ErrUnsupported)):
		return noCatalog(host, "it answers "+e.String())
	case errors.Is(err, ErrUnauthorized):
		return fmt.Errorf("listing the repositories of %s, which it may not do for everybody: %w", host, err)
	}
	return fmt.Errorf("listing the repositories of %s: %w", host, err)
}

func noCatalog(host, why string) error {
	return fail(codeCatalog, "listing the repositories of %s: %w: %s", host, ErrUnsupported, why)
}
