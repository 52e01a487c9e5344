
mod estate;
mod report;
