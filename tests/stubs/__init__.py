"""In-memory stand-ins for AWS, by the documented behaviour of its APIs."""
