mod notify;
mod parts;
