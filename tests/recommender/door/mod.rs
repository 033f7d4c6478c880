//! Who may call the recommender, over real TLS on loopback, with a double of the API server's reviews.
//!
//! | file | what it is for |
//! |---|---|
//! | `methods` | each method of the server, called once; also used on the real control plane |
//! | `pki` | authorities and certificates; also used there |
//! | `reviews` | the API server as far as TokenReview and SubjectAccessReview go |
//! | `stage` | a served store behind a door, and callers |

mod methods;
mod pki;
mod reviews;
mod stage;

mod certificates;
mod client;
mod limits;
mod start;
mod tokens;
