package registry

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imprint-oci/imprint/registry/regtest"
)

func repositories(t testing.TB, c *Client, host, prefix string) ([]string, error) {
	t.Helper()
	var names []string
	for n, err := range c.Repositories(t.Context(), host, prefix) {
		if err != nil {
			return names, err
		}
		names = append(names, n)
	}
	slices.Sort(names)
	return names, nil
}

func TestRepositories(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			c := newTestClient(t, Options{})
			for _, name := range []string{"team", "team/app", "team/db", "teams/app", "other"} {
				r := openTest(t, c, s.Host, name)
				if err := r.Tag(t.Context(), pushImage(t, r, name), "v1"); err != nil {
					t.Fatal(err)
				}
			}
			for prefix, want := range map[string][]string{
				"":         {"other", "team", "team/app", "team/db", "teams/app"},
				"team":     {"team", "team/app", "team/db"},
				"team/":    {"team", "team/app", "team/db"},
				"team/app": {"team/app"},
				"tea":      nil,
			} {
				got, err := repositories(t, c, s.Host, prefix)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("below %q (-want +got):\n%s", prefix, diff)
				}
			}
		})
	}
}

// TestRepositoriesPaged: both registries of the kit answer in pages when they are asked to, tags too.
func TestRepositoriesPaged(t *testing.T) {
	t.Parallel()
	for _, kind := range regtest.Kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s := regtest.New(t, kind)
			c := newTestClient(t, Options{})
			var want []string
			for i := range 5 {
				want = append(want, fmt.Sprint("app", i))
				r := openTest(t, c, s.Host, want[i])
				if err := r.Tag(t.Context(), pushImage(t, r, "x"), "v1"); err != nil {
					t.Fatal(err)
				}
			}
			r := openTest(t, c, s.Host, "app0")
			for i := range 5 {
				if err := r.Tag(t.Context(), pushImage(t, r, "x"), fmt.Sprint("v", i)); err != nil {
					t.Fatal(err)
				}
			}
			s.PageSize(2)
			s.Reset()
			got, err := repositories(t, c, s.Host, "")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("repositories (-want +got):\n%s", diff)
			}
			var tags []string
			for tag, err := range r.Tags(t.Context()) {
				if err != nil {
					t.Fatal(err)
				}
				tags = append(tags, tag)
			}
			slices.Sort(tags)
			if diff := cmp.Diff([]string{"v0", "v1", "v2", "v3", "v4"}, tags); diff != "" {
				t.Errorf("tags (-want +got):\n%s", diff)
			}
			if n := s.Count(nil); n < 6 {
				t.Errorf("%d requests for twice five names in pages of two", n)
			}
		})
	}
}

// TestRepositoriesRefused: a registry without a list of its repositories says so in many ways.
func TestRepositoriesRefused(t *testing.T) {
	t.Parallel()
	say := func(status int, contentType, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", contentType)
			w.WriteHeader(status)
			_, _ = w.Write([]byte(body))
		}
	}
	var n atomic.Int32
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		names  []string
		reason string
		is     error
	}{
		{"404", say(404, "text/plain", "404 page not found"), nil, codeCatalog, ErrUnsupported},
		{"405", say(405, "text/plain", ""), nil, codeCatalog, ErrUnsupported},
		{"UNSUPPORTED", say(400, "application/json", `{"errors":[{"code":"UNSUPPORTED"}]}`), nil, codeCatalog, ErrUnsupported},
		{"HTML", say(200, "text/html", "<html>sign in"), nil, codeCatalog, ErrUnsupported},
		{"other JSON", say(200, "application/json", `{"message":"hello"}`), nil, codeCatalog, ErrUnsupported},
		{"401", say(401, "application/json", `{"errors":[{"code":"UNAUTHORIZED"}]}`), nil, codeUnauthorized, ErrUnauthorized},
		{"403", say(403, "application/json", `{}`), nil, codeForbidden, ErrUnauthorized},
		{"400", say(400, "application/json", `{}`), nil, codeRefused, ErrRefused},
		{"fewer a page than were asked for", func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery != "" {
				say(400, "application/json", `{"errors":[{"code":"PAGINATION_NUMBER_INVALID"}]}`)(w, r)
				return
			}
			_, _ = w.Write([]byte(`{"repositories":["a"]}`))
		}, []string{"a"}, "", nil},
		{"nothing", say(200, "application/json", `{"repositories":[]}`), nil, "", nil},
		{"names that are none, and doubled", say(200, "application/json", `{"repositories":["a","../x","A","a","b"]}`), []string{"a", "b"}, "", nil},
		{"C02 a next page on another host", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", `<http://192.0.2.1/v2/_catalog>; rel="next"`)
			_, _ = w.Write([]byte(`{"repositories":["a"]}`))
		}, []string{"a"}, codeLink, ErrCapped},
		{"C02 pages in a circle", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", `</v2/_catalog?n=1000>; rel="next"`)
			_, _ = w.Write([]byte(`{"repositories":["a"]}`))
		}, []string{"a"}, codeLink, ErrCapped},
		{"C02 more than are followed", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", fmt.Sprintf(`</v2/_catalog?last=%d>; rel="next"`, n.Add(1)))
			_, _ = w.Write([]byte(`{"repositories":["a"` + strings.Repeat(`,"a"`, 249_999) + `]}`))
		}, []string{"a"}, codeCapped, ErrCapped},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := regtest.Serve(t, tt.answer)
			names, err := repositories(t, newTestClient(t, Options{}), s.Host, "")
			if reason(err) != tt.reason || !errors.Is(err, tt.is) {
				t.Errorf("error %v (%s), want %s", err, reason(err), tt.reason)
			}
			if err != nil && !strings.Contains(err.Error(), s.Host) {
				t.Errorf("the error %v does not name the registry", err)
			}
			if diff := cmp.Diff(tt.names, names); diff != "" {
				t.Errorf("names (-want +got):\n%s", diff)
			}
		})
	}
}

// TestRepositoriesToken: the token that is fetched is for the list of repositories, and for that only.
func TestRepositoriesToken(t *testing.T) {
	t.Parallel()
	r := newTokenRegistry(t, answers{"/v2/_catalog": {"application/json", []byte(`{"repositories":["a"]}`)}})
	r.challenge += `,scope="registry:catalog:* repository:other:pull"`
	cred, _ := static(Credential{Username: testUser, Password: testSecret})
	names, err := repositories(t, newTestClient(t, Options{Credentials: cred}), r.Host, "")
	if err != nil || len(names) != 1 {
		t.Fatalf("names %q, error %v", names, err)
	}
	if len(r.asked) != 1 || !slices.Equal(r.asked[0]["scope"], []string{"registry:catalog:*"}) {
		t.Errorf("asked for tokens with %v", r.asked)
	}
}
